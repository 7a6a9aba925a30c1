//! Resolution stays inside, writing is whole or absent.

use super::*;
use std::os::unix::fs::symlink;

fn yard() -> (tempfile::TempDir, OwnedFd) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    std::fs::create_dir_all(root.join("d")).unwrap();
    std::fs::write(dir.path().join("outside"), "out").unwrap();
    std::fs::write(root.join("d/f"), "in").unwrap();
    symlink("/d/f", root.join("absolute")).unwrap();
    symlink("../../../outside", root.join("leaves")).unwrap();
    symlink("d", root.join("to-d")).unwrap();
    let fd = open_dir(&root).unwrap();
    (dir, fd)
}

#[test]
fn beneath_takes_no_links_and_does_not_leave() {
    let (_dir, root) = yard();
    let open = |name: &str| open_beneath(root.as_fd(), name, OFlags::RDONLY, Mode::empty());
    assert!(open("d/f").is_ok());
    for name in ["absolute", "leaves", "to-d/f", "../outside", "/d/f", "d/../../outside"] {
        assert!(open(name).is_err(), "{name}");
    }
}

#[test]
fn in_root_follows_links_as_if_it_were_the_root() {
    let (_dir, root) = yard();
    let read = |name: &str| -> io::Result<String> {
        let fd = open_in_root(root.as_fd(), name, OFlags::RDONLY, Mode::empty())?;
        io::read_to_string(File::from(fd))
    };
    for name in ["d/f", "/d/f", "absolute", "to-d/f", "../../d/f"] {
        assert_eq!(read(name).unwrap(), "in", "{name}");
    }
    assert_eq!(read("leaves").unwrap_err().kind(), io::ErrorKind::NotFound);
    assert_eq!(read("../outside").unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn atomic_write_replaces_and_leaves_nothing_else() {
    let (dir, root) = yard();
    let longest = "n".repeat(255);
    for durable in [false, true] {
        for content in ["one", "", "three"] {
            atomic_write(root.as_fd(), &longest, content.as_bytes(), durable).unwrap();
            let path = dir.path().join("root").join(&longest);
            assert_eq!(std::fs::read_to_string(path).unwrap(), content);
        }
    }
    // A directory in the way: an error, and no temporary file stays.
    assert!(atomic_write(root.as_fd(), "d", b"x", false).is_err());
    for name in ["", ".", "..", "a/b", "a\0b"] {
        assert!(atomic_write(root.as_fd(), name, b"x", false).is_err(), "{name:?}");
    }
    assert_eq!(std::fs::read_dir(dir.path().join("root")).unwrap().count(), 5);
}

#[test]
fn attributes_of_a_link_are_its_own() {
    let (_dir, root) = yard();
    set_xattr_at(&root, b"to-d", b"trusted.test", b"1").unwrap();
    assert!(set_xattr_at(&root, b"d/f", b"trusted.test", b"1").is_err());
    let d = open_beneath(root.as_fd(), "d", OFlags::RDONLY, Mode::empty()).unwrap();
    assert!(xattrs(&d).unwrap().iter().all(|(name, _)| name != b"trusted.test"));
    set_xattr_at(&root, b"d", b"trusted.test", b"2").unwrap();
    assert!(xattrs(&d).unwrap().contains(&(b"trusted.test".to_vec(), b"2".to_vec())));
}
