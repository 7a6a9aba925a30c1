//! Who a container's process is: the request's user and groups against the image's.

use crate::request::ContainerSecurity;
use crate::{ResolvedUser, SpecError};

/// One line of the image's `/etc/passwd`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct User {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub home: String,
}

/// One line of the image's `/etc/group`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Group {
    pub name: String,
    pub gid: u32,
    pub members: Vec<String>,
}

/// Users and groups of an image, in file order; entries out of range are already dropped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct UserTable {
    pub users: Vec<User>,
    pub groups: Vec<Group>,
}

/// Resolves `run_as_user`, `run_as_group` and supplemental groups of a request, else the image's
/// `USER` (`image_user`; empty: root), against the image's tables.
pub fn resolve_user(
    _security: &ContainerSecurity,
    _image_user: &str,
    _table: &UserTable,
) -> Result<ResolvedUser, SpecError> {
    todo!()
}
