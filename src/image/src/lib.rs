//! References, registry, content store, unpacked overlay snapshots, garbage collection.
