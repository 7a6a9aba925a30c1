//! The users and groups that an image declares.

/// The readable part of an image's `/etc/passwd` and `/etc/group`. Lines that are not of the
/// format are skipped: the file belongs to the image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserDatabase {
    /// Users, in the order of the file.
    pub passwd: Vec<PasswdEntry>,
    /// Groups, in the order of the file.
    pub group: Vec<GroupEntry>,
}

/// One user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasswdEntry {
    /// Login name.
    pub name: String,
    /// User id, at most `u32::MAX - 1`.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Home directory, as written.
    pub home: String,
}

/// One group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupEntry {
    /// Group name.
    pub name: String,
    /// Group id.
    pub gid: u32,
    /// Names of the users who are in it beside those whose primary group it is.
    pub members: Vec<String>,
}
