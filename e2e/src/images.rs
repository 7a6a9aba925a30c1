//! Images for the tests, made of Debian's busybox.

use crate::process::run;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A root file system with a static busybox, users and groups; a directory tree that a test may add to.
pub fn busybox_root(at: &Path) {
    for sub in ["bin", "etc", "tmp", "root", "home", "proc", "sys", "dev", "var"] {
        std::fs::create_dir_all(at.join(sub)).expect("directory");
    }
    std::fs::copy("/bin/busybox", at.join("bin/busybox")).expect("busybox-static is installed");
    let applets = run(Command::new("/bin/busybox").arg("--list"));
    for applet in applets.lines().filter(|name| *name != "busybox") {
        let _ = std::os::unix::fs::symlink("busybox", at.join("bin").join(applet));
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www-data:/var/www:/bin/sh\nweb:x:1000:1000::/home/web:/bin/sh\n";
    let group = "root:x:0:\nwww-data:x:33:\nweb:x:1000:\nextra:x:50000:web\n";
    std::fs::write(at.join("etc/passwd"), passwd).expect("passwd");
    std::fs::write(at.join("etc/group"), group).expect("group");
    run(Command::new("chmod").arg("1777").arg(at.join("tmp")));
}

/// Packs a tree as a layer.
pub fn pack(tree: &Path, out: &Path) -> PathBuf {
    run(Command::new("tar")
        .arg("-C")
        .arg(tree)
        .args(["--numeric-owner", "--owner=0", "--group=0", "--xattrs", "-cf"])
        .arg(out)
        .arg("."));
    out.to_owned()
}

/// A busybox layer in `dir`, made once per directory.
pub fn busybox_layer(dir: &Path) -> PathBuf {
    let (tree, out) = (dir.join("busybox-tree"), dir.join("busybox.tar"));
    if !out.exists() {
        busybox_root(&tree);
        pack(&tree, &out);
    }
    out
}

impl crate::World {
    /// A busybox image in the world's registry, pulled; its reference.
    pub fn busybox(&mut self) -> String {
        let layer = busybox_layer(&self.path("tmp"));
        let reference =
            self.push("test/busybox:1", &[&layer], r#"{"Cmd": ["sh"], "Env": ["PATH=/bin"]}"#, &[]);
        self.crictl(&["pull", &reference]);
        reference
    }
}
