//! `ADD` and contexts from elsewhere: a file server and git repositories on loopback.

mod build_support;

use build_support::Bench;
use orlop_e2e::process::{Server, run, until};
use std::path::Path;
use std::process::Command;

/// A plain file server over `dir`; what it listens on.
fn serve(dir: &Path) -> (Server, u16) {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = Command::new("python3");
    command.args(["-m", "http.server", "--bind", "127.0.0.1", &port.to_string()]).current_dir(dir);
    let server = Server::start(command, dir.join("../server.log"));
    until("the file server", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    (server, port)
}

fn git(dir: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command.args(["-c", "user.name=t", "-c", "user.email=t@t", "-C"]).arg(dir).args(arguments);
    run(command.env("GIT_COMMITTER_DATE", "1000000000 +0000")).trim().to_owned()
}

/// A repository that a plain file server can give; the commit.
fn repository(bench: &Bench, served: &Path) -> String {
    let dockerfile = "FROM base\nCOPY hello.txt /from-git\n";
    let tree = bench.context(
        "tree",
        &[("hello.txt", "hi\n"), ("sub/Dockerfile", dockerfile), ("sub/hello.txt", "below\n")],
    );
    git(&tree, &["init", "-q", "-b", "main"]);
    git(&tree, &["add", "-A"]);
    git(&tree, &["commit", "-q", "-m", "one"]);
    let commit = git(&tree, &["rev-parse", "HEAD"]);
    let bare = served.join("r.git");
    run(Command::new("git").args(["clone", "-q", "--bare"]).arg(&tree).arg(&bare));
    git(&bare, &["update-server-info"]);
    commit
}

#[test]
fn files_and_repositories() {
    let bench = Bench::new();
    let served = bench.context("served", &[("f.txt", "fetched\n")]);
    let commit = repository(&bench, &served);
    let (server, port) = serve(&served);
    let at = format!("http://127.0.0.1:{port}");
    let dockerfile = format!("FROM base\nADD {at}/f.txt /in/\nADD {at}/r.git#main:sub /repo/\n");
    let context = bench.context("remote", &[("Dockerfile", &dockerfile)]);
    let tree = bench.tree(&context, &[]);
    assert_eq!(tree["in/f.txt"].content, b"fetched\n");
    assert_eq!((tree["in/f.txt"].mode, tree["in/f.txt"].mtime), (0o600, 1_000_000_000));
    assert_eq!(tree["repo/hello.txt"].content, b"below\n");
    assert_eq!(tree["repo/hello.txt"].mtime, 1_000_000_000);
    assert!(!tree.contains_key("repo/.git"));
    let again = bench.build(&context, &[]);
    assert_eq!((again.reused, again.made), (2, 0), "{}", again.log);

    // A context from the repository.
    let address = format!("{at}/r.git#{commit}:sub");
    let built = bench.tree(Path::new(&address), &[]);
    assert_eq!(built["from-git"].content, b"below\n");

    // What does not fit, and what would be an option.
    let sum = format!("sha256:{}", "0".repeat(64));
    for (add, expected) in [
        (format!("ADD --checksum={sum} {at}/f.txt /x"), "not sha256:000"),
        (format!("ADD {at}/none.txt /x"), "404"),
        (format!("ADD {at}/r.git#--upload-pack=touch /x"), "no branch, tag or commit"),
        (format!("ADD {at}/r.git#main:../.. /x"), "leads out of the repository"),
        (format!("ADD http://me:hush@127.0.0.1:{port}/none.txt /x"), "404"),
    ] {
        std::fs::write(context.join("Dockerfile"), format!("FROM base\n{add}\n")).unwrap();
        let log = bench.fails(&context, &[]);
        assert!(log.contains(expected), "{add}: {log}");
    }
    drop(server);
    bench.finish();
}

/// What a repository may say of itself runs nothing here and reads nothing of this machine.
#[test]
fn a_hostile_repository() {
    let bench = Bench::new();
    let mark = bench.dir.path().join("ran");
    let served = bench.context("served", &[]);
    let tree = bench.context("hostile", &[("f", "x\n")]);
    git(&tree, &["init", "-q", "-b", "main"]);
    git(&tree, &["add", "-A"]);
    git(&tree, &["commit", "-q", "-m", "one"]);
    let commit = git(&tree, &["rev-parse", "HEAD"]);
    let (server, port) = serve(&served);
    let run_mark = format!("touch {}", mark.display());
    for (name, url, extra) in [
        ("ext", format!("ext::sh -c {}%", run_mark.replace(' ', "% ")), ""),
        ("file", format!("file://{}", tree.display()), ""),
        ("path", tree.display().to_string(), ""),
        ("option", format!("--upload-pack={run_mark}"), ""),
        (
            "update",
            format!("http://127.0.0.1:{port}/none.git"),
            &format!("\tupdate = !{run_mark}\n"),
        ),
    ] {
        let text = format!("[submodule \"s\"]\n\tpath = s\n\turl = {url}\n{extra}");
        std::fs::write(tree.join(".gitmodules"), text).unwrap();
        git(&tree, &["add", ".gitmodules"]);
        git(&tree, &["update-index", "--add", "--cacheinfo", &format!("160000,{commit},s")]);
        git(&tree, &["commit", "-q", "-m", name]);
        let bare = served.join(format!("{name}.git"));
        run(Command::new("git").args(["clone", "-q", "--bare"]).arg(&tree).arg(&bare));
        git(&bare, &["update-server-info"]);
        let add = format!("FROM base\nADD http://127.0.0.1:{port}/{name}.git /r/\n");
        let context = bench.context(&format!("c-{name}"), &[("Dockerfile", &add)]);
        let log = bench.fails(&context, &[]);
        assert!(log.contains("git submodule"), "{name}: {log}");
        assert!(!mark.exists(), "{name}: {log}");
    }
    let left = std::fs::read_dir(bench.dir.path().join("root/build/temporary")).unwrap();
    assert_eq!(left.count(), 0);
    drop(server);
    bench.finish();
}
