//! What the client is told at the end.

use crate::backend::Outcome;
use serde_json::json;

/// The `metav1.Status` of protocol version 4 and later, in JSON.
pub(super) fn document(outcome: &Outcome) -> Vec<u8> {
    let status = match outcome {
        Outcome::Ended | Outcome::Exited(0) => json!({ "metadata": {}, "status": "Success" }),
        Outcome::Exited(code) => json!({
            "metadata": {},
            "status": "Failure",
            "message": text(outcome),
            "reason": "NonZeroExitCode",
            "details": { "causes": [{ "reason": "ExitCode", "message": code.to_string() }] },
        }),
        Outcome::Failed(_) => json!({
            "metadata": {},
            "status": "Failure",
            "message": text(outcome),
            "reason": "InternalError",
            "code": 500,
        }),
    };
    status.to_string().into_bytes()
}

/// What earlier versions say: nothing when all went well.
pub(super) fn text(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Ended | Outcome::Exited(0) => String::new(),
        Outcome::Exited(code) => {
            format!("command terminated with non-zero exit code: exit status {code}")
        }
        Outcome::Failed(why) => why.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn an_exit_code_is_a_cause() {
        let status: Value = serde_json::from_slice(&document(&Outcome::Exited(42))).unwrap();
        assert_eq!(status["reason"], "NonZeroExitCode");
        assert_eq!(status["details"]["causes"][0], json!({"reason": "ExitCode", "message": "42"}));
        let status: Value = serde_json::from_slice(&document(&Outcome::Exited(0))).unwrap();
        assert_eq!(status["status"], "Success");
        assert!(text(&Outcome::Ended).is_empty());
        assert!(text(&Outcome::Failed("no".into())).contains("no"));
    }
}
