//! `orlop-shim names DIR DEVICE all|internal ADDRESS…`: the responder of a network. Descriptor 3 is told
//! how it went: `ok`, or why not.

use crate::complain;
use orlop_names::{Settings, run};
use std::cell::RefCell;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// The port of DNS.
const PORT: u16 = 53;

pub(crate) fn main() -> ExitCode {
    let (Some(settings), Ok(told)) = (settings(), orlop_sys::descriptors::take_passed()) else {
        complain(&"names: give a directory, a device, all or internal, and addresses");
        return ExitCode::FAILURE;
    };
    // Run from a memory file, our name would be a number.
    let _ = rustix::thread::set_name(c"orlop-names");
    let told = RefCell::new(Some(File::from(told)));
    let tell = |text: &str| {
        if let Some(mut file) = told.borrow_mut().take() {
            // Whoever started us may have gone.
            let _ = file.write_all(text.as_bytes());
        }
    };
    match run(settings, || tell("ok")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn settings() -> Option<Settings> {
    let mut args = std::env::args_os().skip(2);
    let dir = PathBuf::from(args.next()?);
    let device = args.next()?.into_string().ok()?;
    let forward = args.next()? == "all";
    let address = |text: std::ffi::OsString| text.to_str()?.parse().ok();
    let addresses = args.map(address).collect::<Option<Vec<_>>>()?;
    let (resolv_conf, port, upstream_port) = ("/etc/resolv.conf".into(), PORT, PORT);
    Some(Settings { dir, device, addresses, port, forward, resolv_conf, upstream_port })
}
