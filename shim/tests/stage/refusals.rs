//! What cannot start says why.

use crate::stage::{StageError, Step};
use crate::world::World;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn refused(prepare: impl FnOnce(&World), change: impl FnOnce(&mut Value)) -> StageError {
    let world = World::with("true", change);
    prepare(&world);
    world.run().unwrap_err()
}

fn program(world: &World, name: &str, bytes: &[u8], mode: u32) {
    let path = world.lower().join("bin").join(name);
    std::fs::write(&path, bytes).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
}

/// An ELF header for a machine, with an interpreter where named.
fn elf(machine: u16, interpreter: Option<&str>) -> Vec<u8> {
    let mut file = vec![0_u8; 64];
    file[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1]);
    file[16] = 2;
    file[18..20].copy_from_slice(&machine.to_le_bytes());
    file[20] = 1;
    file[32] = 64;
    file[52] = 64;
    file[54] = 56;
    let Some(interpreter) = interpreter else { return file };
    file[56] = 1;
    let mut header = [0_u8; 56];
    header[0] = 3;
    header[8] = 120;
    header[32] = u8::try_from(interpreter.len() + 1).unwrap();
    header[40] = header[32];
    file.extend_from_slice(&header);
    file.extend_from_slice(interpreter.as_bytes());
    file.push(0);
    file
}

#[test]
fn four_ways_to_have_no_program() {
    let other = if cfg!(target_arch = "aarch64") { 62 } else { 183 };
    let own = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
    type Case<'a> = (&'a str, Option<(Vec<u8>, u32)>, &'a str);
    let cases: [Case<'_>; 8] = [
        ("absent", None, "not found in any directory of PATH"),
        ("/no/such", None, "no such file in the container's root file system"),
        ("plain", Some((b"#!/bin/sh\n".to_vec(), 0o644)), "not executable"),
        ("foreign", Some((elf(other, None), 0o755)), "wrong architecture"),
        (
            "orphan",
            Some((elf(own, Some("/lib/ld-none.so.1")), 0o755)),
            "interpreter /lib/ld-none.so.1 does not exist",
        ),
        (
            "script",
            Some((b"#!/opt/perl -w\n".to_vec(), 0o755)),
            "interpreter /opt/perl does not exist",
        ),
        ("text", Some((b"hello".to_vec(), 0o755)), "neither ELF nor a script"),
        ("/etc", None, "a directory"),
    ];
    for (name, file, expected) in cases {
        let error = refused(
            |world| {
                if let Some((bytes, mode)) = &file {
                    program(world, name, bytes, *mode);
                }
            },
            |spec| spec["process"]["args"] = json!([name]),
        );
        assert_eq!(error.step, Step::Exec, "{name}: {error}");
        assert!(error.message.contains(expected), "{name}: {error}");
    }
}

#[test]
fn exec_refuses_alike() {
    let world = World::new("read x");
    let (init, hold) = world.hold();
    let mut process = world.spec["process"].clone();
    process["args"] = json!(["absent"]);
    let error = world.exec(&init, &process).unwrap_err();
    assert!(error.message.contains("not found in any directory of PATH"), "{error}");
    process["args"] = json!(["true"]);
    process["cwd"] = json!("/bin/sh");
    let error = world.exec(&init, &process).unwrap_err();
    assert_eq!(error.step, Step::Cwd, "{error}");
    drop(hold);
    init.child.pidfd.wait().unwrap();
}

#[test]
fn a_missing_source_is_named() {
    let error = refused(
        |_| {},
        |spec| {
            spec["mounts"].as_array_mut().unwrap().push(
                json!({ "destination": "/data", "type": "bind", "source": "/no/such/source", "options": ["rbind"] }),
            );
        },
    );
    assert_eq!(error.step, Step::Mount);
    assert!(
        error.message.contains("/no/such/source") && error.message.contains("does not exist"),
        "{error}"
    );
}

#[test]
fn a_working_directory_is_made_and_a_wrong_one_is_refused() {
    let world = World::with("pwd", |spec| spec["process"]["cwd"] = json!("/new/deep/place"));
    assert_eq!(world.output(), "/new/deep/place\n");
    assert!(world.upper().join("new/deep/place").is_dir());
    for cwd in ["relative", "/bin/sh", "/bin/sh/below"] {
        let error = refused(|_| {}, |spec| spec["process"]["cwd"] = json!(cwd));
        assert_eq!(error.step, Step::Cwd, "{cwd}: {error}");
    }
}

#[test]
fn nonsense_in_the_spec_is_refused() {
    let error = refused(|_| {}, |spec| spec["linux"]["sysctl"] = json!({ "net.no.such": "1" }));
    assert_eq!(error.step, Step::Sysctl);
    assert!(error.message.contains("no such parameter"), "{error}");
    let error = refused(|_| {}, |spec| spec["process"]["args"] = json!([""]));
    assert!(error.message.contains("no command"), "{error}");
    let error = refused(
        |_| {},
        |spec| {
            spec["linux"]["namespaces"]
                .as_array_mut()
                .unwrap()
                .push(json!({ "type": "network", "path": "/no/such/ns" }));
        },
    );
    assert_eq!(error.step, Step::Namespace, "{error}");
    let error = refused(
        |_| {},
        |spec| {
            spec["linux"]["namespaces"] =
                json!([{ "type": "mount" }, { "type": "network", "path": "/no/such" }])
        },
    );
    assert!(error.message.contains("/no/such"), "{error}");
    assert!(!Path::new("/no/such").exists());
}
