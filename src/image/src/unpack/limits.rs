//! How much of a hostile archive is taken before it is refused.

/// Bounds of one layer. The default is far above any real image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Most members of the archive.
    pub entries: u64,
    /// Most bytes of all file contents together, holes of sparse files included.
    pub bytes: u64,
    /// Longest member name or link target, in bytes.
    pub path_len: usize,
    /// Most components of a member name.
    pub path_depth: usize,
    /// Most bytes of the names and values of all extended attributes of one member.
    pub xattr_bytes: usize,
    /// Most bytes of one extension header (PAX records, GNU long name).
    pub extension_bytes: u64,
    /// Most segments in the map of a sparse file.
    pub sparse_segments: usize,
    /// Threads that create files.
    pub writers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 4_000_000,
            bytes: 1 << 40,
            path_len: 4095,
            path_depth: 1024,
            xattr_bytes: 128 * 1024,
            extension_bytes: 1 << 20,
            sparse_segments: 65_536,
            writers: 2,
        }
    }
}
