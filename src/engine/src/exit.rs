//! What a command line returns for a program that could not be started.

/// The status for what a shim says of a start: 127 where there is no such program, 126 where it cannot
/// be executed; `None`: it is not the program that is at fault.
pub fn status_of_start(message: &str) -> Option<u8> {
    let about_program = message.starts_with("exec ") || message.starts_with("working directory ");
    let absent = [
        "no such file",
        "not found in any directory of PATH",
        "does not exist in the container's root file system",
    ];
    match about_program {
        false => None,
        true if absent.iter().any(|words| message.contains(words)) => Some(127),
        true => Some(126),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_a_shell_has_it() {
        for (message, status) in [
            (
                "exec nope: not found in any directory of PATH in the container's root file system",
                Some(127),
            ),
            ("exec /nope: no such file in the container's root file system", Some(127)),
            (
                "exec /x: its interpreter /y does not exist in the container's root file system",
                Some(127),
            ),
            ("exec /etc: it is a directory, not a program", Some(126)),
            (
                "exec /x: not executable by this user: set its execute permission, and mount it without noexec",
                Some(126),
            ),
            ("working directory /a: no such file or directory", Some(127)),
            ("mount /proc: permission denied", None),
            ("container x is not running", None),
        ] {
            assert_eq!(status_of_start(message), status, "{message}");
        }
    }
}
