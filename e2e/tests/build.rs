//! `orlop build`: real steps in real containers, on a store of the test's own.

mod build_support;

use build_support::Bench;
use std::os::unix::fs::symlink;

/// A program, and what `RUN` makes of it; each with its own layer.
const APP: &str = "# syntax=docker/dockerfile:1
FROM base AS build
WORKDIR /src
COPY Makefile ./
RUN cat Makefile > /out.txt
COPY . .
RUN cat app.txt >> /out.txt
FROM scratch
COPY --from=build /out.txt /app/out.txt
USER 1000
CMD [\"/app/out.txt\"]
";

#[test]
fn only_what_changed_is_made_again() {
    let bench = Bench::new();
    let context =
        bench.context("app", &[("Makefile", "all:\n"), ("app.txt", "one\n"), ("Dockerfile", APP)]);
    let built = bench.build(&context, &[]);
    assert_eq!((built.reused, built.made), (0, 6), "{}", built.log);
    let again = bench.build(&context, &[]);
    assert_eq!((again.reused, again.made), (6, 0), "{}", again.log);
    assert_eq!(built.id, again.id);
    std::fs::write(context.join("app.txt"), "two\n").unwrap();
    let touched = bench.build(&context, &["--explain"]);
    assert_eq!((touched.reused, touched.made), (3, 3), "{}", touched.log);
    assert!(touched.log.contains("different since the last time: content of /"), "{}", touched.log);
    let tree = bench.tree(&context, &[]);
    assert_eq!(tree["app/out.txt"].content, b"all:\ntwo\n");
    bench.finish();
}

#[test]
fn two_stores_give_the_same_digest() {
    let (first, second) = (Bench::new(), Bench::new());
    let id = |bench: &Bench| {
        let context = bench.context(
            "same",
            &[
                (
                    "Dockerfile",
                    "FROM base\nCOPY d /d\nRUN mkdir /m && date > /m/x && rm /m/x\nWORKDIR /w\n",
                ),
                ("d/a", "1"),
            ],
        );
        bench.build(&context, &["--no-cache"]).id
    };
    let (one, two) = (id(&first), id(&second));
    assert_eq!(one, two);
    first.finish();
    second.finish();
}

#[test]
fn secrets_are_seen_by_their_step_only() {
    let bench = Bench::new();
    let dockerfile = "FROM base\nRUN --mount=type=secret,id=s test \"$(wc -c < /run/secrets/s)\" = 9\nRUN test ! -e /run/secrets/s\n";
    let context = bench.context("secret", &[("Dockerfile", dockerfile)]);
    let secret = bench.dir.path().join("secret.txt");
    std::fs::write(&secret, "hush-hush").unwrap();
    let flag = format!("id=s,src={}", secret.display());
    let built = bench.build(&context, &["--secret", &flag]);
    assert!(!built.log.contains("hush-hush"));
    std::fs::remove_file(&secret).unwrap();
    let hits = build_support::holds(&bench.dir.path().join("root"), b"hush-hush");
    assert!(hits.is_empty(), "{hits:?}");
    bench.finish();
}

#[test]
fn links_of_a_context_lead_nowhere_outside() {
    let bench = Bench::new();
    let outside = bench.dir.path().join("outside");
    std::fs::write(&outside, "canary").unwrap();
    let context = bench.context("links", &[("Dockerfile", "FROM base\nCOPY link /x\n")]);
    for target in [outside.to_str().unwrap(), "../outside", "/proc/self/root/etc/passwd", "link"] {
        let link = context.join("link");
        let _ = std::fs::remove_file(&link);
        symlink(target, &link).unwrap();
        let log = bench.fails(&context, &[]);
        assert!(!log.contains("canary"), "{log}");
    }
    bench.finish();
}

#[test]
fn errors_say_what_to_do() {
    let bench = Bench::new();
    let context = bench.context(
        "errors",
        &[("app.py", "x"), ("hidden.txt", "x"), (".dockerignore", "hidden.txt\n")],
    );
    for (dockerfile, expected) in [
        ("FROM base\nCOPY ap.py /\n", "did you mean \"app.py\"?"),
        ("FROM base\nCOPY hidden.txt /\n", ".dockerignore:1 hides it: hidden.txt"),
        ("FROM base\nCOPY --chown=ghost app.py /\n", "no user \"ghost\" in /etc/passwd"),
        ("FROM base\nCOPY app.py hidden.txt /x\n", "hides it"),
        ("FROM base\nRUN exit 42\n", "exit code: 42"),
        ("FROM base\nRUN --security=insecure true\n", "--allow security.insecure"),
        ("FROM base\nRUN --network=host true\n", "--allow network.host"),
        ("FROM base AS a\nCOPY --from=a /x /y\n", "circular dependency"),
    ] {
        std::fs::write(context.join("Dockerfile"), dockerfile).unwrap();
        let log = bench.fails(&context, &[]);
        assert!(log.contains(expected), "{dockerfile}: {log}");
        assert!(log.contains("^"), "{log}");
    }
    bench.finish();
}

#[test]
fn mounts_of_all_kinds() {
    let bench = Bench::new();
    let dockerfile = "FROM base AS files
RUN mkdir -p /d/e && echo stage > /d/e/f
FROM base
RUN --mount=type=cache,target=/c,id=one echo kept > /c/x
RUN --mount=type=cache,target=/other,id=one test \"$(cat /other/x)\" = kept
RUN --mount=target=/ctx test \"$(cat /ctx/a.txt)\" = context && ! touch /ctx/no
RUN --mount=target=/ctx,rw echo gone > /ctx/a.txt
RUN --mount=target=/s,from=files,source=/d/e test \"$(cat /s/f)\" = stage
RUN --mount=type=tmpfs,target=/t,size=1m touch /t/x && mount | grep ' /t type tmpfs'
RUN test ! -e /c && test ! -e /ctx && test ! -e /s && test ! -e /t
";
    let context = bench.context("mounts", &[("Dockerfile", dockerfile), ("a.txt", "context")]);
    let tree = bench.tree(&context, &[]);
    for gone in ["c", "ctx", "s", "t", "other"] {
        assert!(!tree.contains_key(gone), "{gone}");
    }
    assert_eq!(std::fs::read(context.join("a.txt")).unwrap(), b"context");
    bench.finish();
}

/// Two steps; the first tells how often its cache mount was filled before.
const KEEPS: &str = "FROM base
RUN --mount=type=cache,target=/c echo x >> /c/times && wc -l < /c/times > /times && head -c 9999 /dev/zero > /a
RUN head -c 9999 /dev/zero > /b
";

#[test]
fn what_builds_keep_goes_when_asked_and_when_it_is_too_much() {
    let bench = Bench::new();
    let config = bench.context("config", &[("small.toml", "[build]\ncache_size = \"1 KiB\"\n")]);
    let small = config.join("small.toml");
    let small = ["--config", small.to_str().unwrap()];
    let context = bench.context("keeps", &[("Dockerfile", KEEPS)]);
    let times = |flags: &[&str]| bench.tree(&context, flags)["times"].content.clone();
    let steps = |flags: &[&str]| {
        let built = bench.build(&context, flags);
        (built.reused, built.made)
    };
    assert_eq!(times(&[]), b"1\n");
    assert_eq!(times(&["--no-cache"]), b"2\n");

    let prune = |keep: &str| bench.orlop("root", &["builder", "prune", "--keep", keep]);
    assert_eq!(prune("10g"), "0 steps and 0 cache mounts forgotten");
    assert_eq!(steps(&[]), (2, 0));
    // That of the base image, the first one in two results, and the second on one of them each.
    assert_eq!(prune("0"), "4 steps and 1 cache mounts forgotten");
    assert_eq!(times(&[]), b"1\n");
    assert_eq!(steps(&[]), (2, 0));

    // A build that makes something keeps no more than the limit.
    assert_eq!(steps(&[&small[..], &["--no-cache"]].concat()), (0, 2));
    assert_eq!(steps(&small), (0, 2));
    assert_eq!(times(&[]), b"1\n");
    bench.finish();
}

#[test]
fn a_built_image_can_leave_whatever_it_was_made_of() {
    let bench = Bench::new();
    let middle = bench.context("middle", &[("Dockerfile", "FROM base\nRUN echo 1 > /one\n")]);
    bench.build(&middle, &["-t", "middle"]);
    let app = "FROM middle\nRUN echo 2 > /two\nRUN true\nCOPY --link Dockerfile /three\n";
    let app = bench.context("app", &[("Dockerfile", app)]);
    let annotated = bench.build(&app, &["-t", "app", "--annotation", "org.example=1"]).id;
    // The same image once more, from known steps; then nothing is left of what it was made of.
    assert_eq!(bench.build(&app, &["-t", "app"]).id, annotated);
    bench.orlop("root", &["rmi", "middle", "base"]);
    bench.orlop("root", &["builder", "prune"]);
    let archive = bench.dir.path().join("app.tar");
    let archive = archive.to_str().unwrap();
    for name in ["app", annotated.as_str()] {
        bench.orlop("root", &["save", "-o", archive, name]);
        let other = format!("other-{}", name.len());
        bench.orlop(&other, &["load", "--input", archive]);
        let inspected = bench.orlop(&other, &["image", "inspect", &annotated]);
        assert!(inspected.contains(&annotated), "{inspected}");
    }
    bench.finish();
}

#[test]
fn an_archive_on_standard_output_is_nothing_but_the_archive() {
    let bench = Bench::new();
    let context = bench.context("out", &[("Dockerfile", "FROM base\nRUN echo x > /x\n")]);
    let file = bench.dir.path().join("out.tar");
    bench.build(&context, &["-o", &format!("type=oci,dest={}", file.display())]);
    assert!(bench.stdout(&context, &["-o", "type=oci"]) == std::fs::read(&file).unwrap());
    assert!(bench.stdout(&context, &[]).starts_with(b"sha256:"));
    bench.finish();
}
