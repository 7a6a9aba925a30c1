//! What instructions accept, and what their errors say.

use super::*;

fn only(text: &str) -> Instruction {
    let mut read = read(&format!("FROM a\n{text}\n")).unwrap_or_else(|e| panic!("{text}: {e}"));
    read.stages[0].commands.remove(0).instruction
}

fn fails(text: &str) -> String {
    let source = format!("FROM a\n{text}\n");
    read(&source).expect_err(text).render("Dockerfile", &source)
}

#[test]
fn stages() {
    let file = read("ARG v=1\nFROM a:$v as Base\nFROM --platform=$P base\n").unwrap();
    assert_eq!(file.arguments.len(), 1);
    assert_eq!(file.stages[0].name.as_deref(), Some("base"));
    assert_eq!(file.stages[0].written_as.as_deref(), Some("as"));
    assert_eq!(file.stages[1].platform.as_deref(), Some("$P"));
    for (source, expected) in [
        ("FROM a AS 1x", "invalid name for build stage"),
        ("FROM a AS x/y", "invalid name for build stage"),
        ("FROM a b", "either one or three"),
        ("FROM", "either one or three"),
        ("RUN x", "no build stage in current context"),
        ("ARG x", "contains no stages"),
        ("FROM --platfrom=x a", "did you mean --platform?"),
    ] {
        let error = read(source).expect_err(source).render("D", source);
        assert!(error.contains(expected), "{source}: {error}");
    }
}

#[test]
fn flags_that_are_unknown_name_the_nearest() {
    assert!(fails("RUN --mont=type=tmpfs,target=/x y").contains("did you mean --mount?"));
    assert!(fails("COPY --chonw=1 a b").contains("did you mean --chown?"));
    assert!(fails("COPY --chmod 777 a b").contains("missing a value on flag: --chmod"));
    assert!(fails("COPY --chmod=1 --chmod=2 a b").contains("duplicate flag"));
    assert!(fails("ADD --parents a b").contains("unknown flag: --parents of ADD"));
    assert!(fails("ADD --from=x a b").contains("unknown flag: --from of ADD"));
    assert!(fails("WORKDIR --x /a").contains("has no flags"));
    assert!(fails("COPY --link=maybe a b").contains("true or false"));
}

#[test]
fn transfers() {
    let Instruction::Copy(copy) = only(
        "COPY --from=b --chown=1:2 --chmod=u+x --link --parents --exclude=x --exclude=y a c d/",
    ) else {
        panic!()
    };
    assert_eq!(copy.sources.len(), 2);
    assert_eq!((copy.link, copy.parents), (true, true));
    assert_eq!(copy.exclude, ["x", "y"]);
    let Instruction::Add(add) = only("ADD --unpack=false --checksum=sha256:x http://h/x /y") else {
        panic!()
    };
    assert_eq!((add.unpack, add.checksum.as_deref()), (Some(false), Some("sha256:x")));
    let Instruction::Copy(copy) = only("COPY a <<E <<F /d/\n1\nE\n2\nF") else { panic!() };
    let bodies: Vec<_> =
        copy.sources.iter().filter(|source| matches!(source, Source::Heredoc(_))).collect();
    assert_eq!((copy.sources.len(), bodies.len()), (3, 2));
    let Instruction::Copy(copy) = only("COPY [\"a b\", \"<<x\", \"c\"]") else { panic!() };
    assert_eq!(copy.sources, [Source::Path("a b".into()), Source::Path("<<x".into())]);
    assert!(fails("COPY a").contains("requires at least two arguments"));
    assert!(fails("COPY --from=$x a b").contains("variable expansion is not supported"));
}

fn mount(text: &str) -> Mount {
    let lines = Lines { first: 1, last: 1 };
    Mount::parse(text, lines, &mut |value| Ok(value.replace("$V", "v"))).unwrap()
}

#[test]
fn mounts() {
    assert_eq!(
        mount("target=/x,from=b,source=/y,rw"),
        Mount {
            kind: MountKind::Bind { from: Some("b".into()), source: Some("/y".into()) },
            target: Some("/x".into()),
            read_only: false
        }
    );
    assert!(mount("target=/x").read_only);
    assert!(!mount("target=/x,readonly=false").read_only);
    let cache = mount("type=cache,dst=/$V,sharing=locked,mode=1777,uid=5,id=a");
    assert_eq!(cache.target.as_deref(), Some("/v"));
    let MountKind::Cache { sharing, mode, uid, gid, .. } = cache.kind else { panic!() };
    assert_eq!((sharing, mode, uid, gid), (Sharing::Locked, 0o1777, 5, 0));
    assert_eq!(
        mount("type=tmpfs,target=/t,size=1.5m").kind,
        MountKind::Tmpfs { size: Some(3 << 19) }
    );
    let MountKind::Secret { mode, required, .. } = mount("type=secret,id=a,required").kind else {
        panic!()
    };
    assert_eq!((mode, required), (0o400, true));
    let MountKind::Ssh { id, mode, .. } = mount("type=ssh").kind else { panic!() };
    assert_eq!((id.as_str(), mode), ("default", 0o600));
    let quoted = mount("type=bind,\"target=/a,b\"");
    assert_eq!(quoted.target.as_deref(), Some("/a,b"));
}

#[test]
fn mounts_that_are_refused() {
    for (options, expected) in [
        ("typ=tmpfs", "did you mean type?"),
        ("type=tmpf,target=/x", "did you mean tmpfs?"),
        ("type=cache", "needs a target"),
        ("type=bind,target=/", "cannot have / as its target"),
        ("type=tmpfs,target=/x,from=y", "has no option 'from'"),
        ("type=cache,target=/x,sharing=all", "shared, private or locked"),
        ("type=cache,target=/x,mode=99999", "invalid value"),
        ("target=/x,from=$y", "'from' doesn't support variable expansion"),
        ("type=secret", "needs an id or a target"),
        ("type=tmpfs,target=/x,size=many", "invalid size"),
        ("type=ssh,required=perhaps", "true or false"),
        ("target=/x,bind-propagation=shared", "unexpected key"),
    ] {
        let error = fails(&format!("RUN --mount={options} true"));
        assert!(error.contains(expected), "{options}: {error}");
    }
    // A value that is still a variable may become anything.
    only("RUN --mount=type=$T,target=/x true");
}

#[test]
fn health() {
    let Instruction::Healthcheck(Healthcheck::Check(health)) =
        only("HEALTHCHECK --interval=5s --retries=3 CMD curl x")
    else {
        panic!()
    };
    assert_eq!((health.interval, health.retries), (5_000_000_000, 3));
    assert_eq!(only("HEALTHCHECK NONE"), Instruction::Healthcheck(Healthcheck::None));
    assert!(fails("HEALTHCHECK").contains("at least one argument"));
    assert!(fails("HEALTHCHECK CONNECT x").contains("unknown type"));
    assert!(fails("HEALTHCHECK CMD").contains("missing command"));
    assert!(fails("HEALTHCHECK NONE x").contains("takes no arguments"));
    assert!(fails("HEALTHCHECK --interval=1us CMD x").contains("less than 1 ms"));
    assert!(fails("HEALTHCHECK --retries=-1 CMD x").contains("invalid number of retries"));
}

#[test]
fn triggers() {
    assert_eq!(only("ONBUILD RUN a"), Instruction::Onbuild("RUN a".into()));
    let Instruction::Onbuild(text) = only("ONBUILD RUN <<E\nx\nE") else { panic!() };
    let Instruction::Run(run) = read_trigger(&text).unwrap().instruction else { panic!() };
    assert_eq!(run.heredocs[0].content, "x\n");
    for (bad, expected) in [
        ("ONBUILD ONBUILD RUN x", "chaining"),
        ("ONBUILD FROM x", "isn't allowed"),
        ("ONBUILD MAINTAINER x", "isn't allowed"),
        ("ONBUILD", "requires an instruction"),
        ("ONBUILD COPY x", "at least two"),
    ] {
        assert!(fails(bad).contains(expected), "{bad}");
    }
}

#[test]
fn counts_of_arguments() {
    for (bad, expected) in [
        ("WORKDIR", "exactly one"),
        ("USER", "exactly one"),
        ("STOPSIGNAL", "exactly one"),
        ("MAINTAINER", "exactly one"),
        ("EXPOSE", "at least one"),
        ("VOLUME", "at least one"),
        ("VOLUME [\"\"]", "at least one"),
        ("LABEL", "at least one"),
        ("ENV", "at least one"),
        ("ENV a", "two arguments"),
        ("ENV =x", "can not be blank"),
        ("ENV a=1 b", "cannot find ="),
        ("ARG", "at least one"),
        ("ARG =x", "can not be blank"),
        ("SHELL /bin/sh", "JSON form"),
        ("SHELL []", "JSON form"),
        ("RUN", "requires a command"),
        ("RUN --network=some x", "default, none or host"),
        ("RUN --security=none x", "sandbox or insecure"),
        ("CMD [\"a\", 1]", "strings only"),
    ] {
        let error = fails(bad);
        assert!(error.contains(expected), "{bad}: {error}");
    }
}
