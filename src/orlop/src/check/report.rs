//! What was found, and how it is shown.

use std::fmt::Write;

/// How much a finding matters; the greatest decides the exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// As it should be.
    Fine,
    /// Nothing that the daemon needs; worth knowing.
    Note,
    /// Some pods will not work, or not as asked.
    Lacking,
    /// No pod will work.
    Essential,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Note => "note",
            Self::Lacking => "lacking",
            Self::Essential => "essential",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Finding {
    pub(super) level: Level,
    /// What was looked at.
    pub(super) what: String,
    /// What is there.
    pub(super) found: String,
    /// What will not work for it.
    pub(super) cost: String,
    /// What to do about it.
    pub(super) remedy: String,
}

impl Finding {
    fn new(level: Level, what: impl Into<String>, found: impl Into<String>) -> Self {
        let (cost, remedy) = (String::new(), String::new());
        Self { level, what: what.into(), found: found.into(), cost, remedy }
    }

    pub(super) fn fine(what: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(Level::Fine, what, found)
    }

    pub(super) fn note(what: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(Level::Note, what, found)
    }

    pub(super) fn lacking(what: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(Level::Lacking, what, found)
    }

    pub(super) fn essential(what: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(Level::Essential, what, found)
    }

    pub(super) fn costs(self, cost: impl Into<String>) -> Self {
        Self { cost: cost.into(), ..self }
    }

    pub(super) fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: remedy.into(), ..self }
    }
}

/// For people: what is not fine, the worst first, or everything in the order of the check.
pub(super) fn text(findings: &[Finding], all: bool) -> String {
    let mut shown: Vec<&Finding> =
        findings.iter().filter(|finding| all || finding.level > Level::Fine).collect();
    if !all {
        shown.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    }
    let mut text = String::new();
    for Finding { level, what, found, cost, remedy } in shown {
        let _ =
            writeln!(text, "{:9}  {what}: {}", level.word(), found.replace('\n', "\n           "));
        for (label, more) in [("costs", cost), ("do", remedy)] {
            if !more.is_empty() {
                let _ = writeln!(text, "{:>15}: {more}", label);
            }
        }
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let (essential, lacking) = (count(Level::Essential), count(Level::Lacking));
    let verdict = match (essential, lacking) {
        (0, 0) => "pods can run here, and nothing is lacking".to_owned(),
        (0, _) => format!("pods can run here; {lacking} of what some need is lacking"),
        _ => format!("pods cannot run here: {essential} essential, {lacking} lesser lacks"),
    };
    let _ = writeln!(text, "{verdict} ({} things looked at)", findings.len());
    text
}

/// For programs.
pub(super) fn json(findings: &[Finding]) -> serde_json::Value {
    let list: Vec<_> = findings
        .iter()
        .map(|Finding { level, what, found, cost, remedy }| {
            serde_json::json!({
                "level": level.word(), "what": what, "found": found, "cost": cost, "remedy": remedy,
            })
        })
        .collect();
    let runs = findings.iter().all(|finding| finding.level < Level::Essential);
    serde_json::json!({"pods_can_run": runs, "findings": list})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_comes_first_and_decides() {
        let findings = [
            Finding::fine("a", "there"),
            Finding::lacking("b", "absent").costs("that").remedy("this"),
            Finding::essential("c", "absent"),
        ];
        let expected = "\
essential  c: absent
lacking    b: absent
          costs: that
             do: this
pods cannot run here: 1 essential, 1 lesser lacks (3 things looked at)
";
        assert_eq!(text(&findings, false), expected);
        assert!(text(&findings[..1], true).starts_with("fine       a: there\n"));
        assert_eq!(json(&findings)["pods_can_run"], false);
        assert_eq!(json(&findings[..2])["pods_can_run"], true);
    }
}
