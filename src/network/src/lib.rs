//! Namespaces and CNI: the common plugins in process, any other executed.
