//! Commands in containers.

use crate::Api;
use crate::containers::required_id;
use crate::error::ApiError;
use crate::v1;
use crate::validate::Invalid;
use std::time::Duration;

pub(crate) async fn sync(
    api: &Api,
    request: v1::ExecSyncRequest,
) -> Result<v1::ExecSyncResponse, ApiError> {
    let runtime = &api.engine()?.runtime;
    let id = required_id("container_id", &request.container_id)?;
    check_command(&request.cmd)?;
    let output = runtime.exec_sync(id, request.cmd.clone(), limit(request.timeout)?).await?;
    Ok(v1::ExecSyncResponse {
        stdout: output.stdout,
        stderr: output.stderr,
        exit_code: output.exit_code,
    })
}

pub(crate) fn check_command(cmd: &[String]) -> Result<(), Invalid> {
    let refuse = |value: &String, remedy: &str| Invalid::Value {
        field: "cmd".to_owned(),
        value: value.chars().take(120).collect(),
        remedy: remedy.to_owned(),
    };
    match cmd.first() {
        None => {
            Err(Invalid::Missing { field: "cmd".to_owned(), remedy: "give a command".to_owned() })
        }
        Some(first) if first.is_empty() => Err(refuse(first, "the first word names the program")),
        Some(_) => match cmd.iter().find(|word| word.contains('\0')) {
            Some(word) => Err(refuse(word, "remove the NUL byte")),
            None => Ok(()),
        },
    }
}

/// Seconds; 0 is no limit.
fn limit(seconds: i64) -> Result<Option<Duration>, Invalid> {
    match u64::try_from(seconds) {
        Ok(0) => Ok(None),
        Ok(seconds) => Ok(Some(Duration::from_secs(seconds))),
        Err(_) => Err(Invalid::Value {
            field: "timeout".to_owned(),
            value: seconds.to_string(),
            remedy: "use a number of seconds, or 0 for no limit".to_owned(),
        }),
    }
}
