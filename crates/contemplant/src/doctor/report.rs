//! What a doctor says: a line for each check for people, or JSON for machines.

use std::fmt::Write as _;

use network_lib::CONTEMPLANT_VERSION;

use super::checks::{Diagnosis, Verdict};

/// One line for each check, and one beneath it for what mends it.
pub fn text(diagnosis: &Diagnosis) -> String {
    let width = diagnosis.checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    let mut text = format!("contemplant {CONTEMPLANT_VERSION}\n\n");
    for check in &diagnosis.checks {
        // A string takes anything.
        let _ = writeln!(text, "{:<8}  {:<width$}  {}", check.verdict.name(), check.name, check.text);
        if let Some(remedy) = &check.remedy {
            let _ = writeln!(text, "{:<8}  {:<width$}  -> {remedy}", "", "");
        }
    }
    let count = |verdict, one: &str, several: &str| match diagnosis.count(verdict) {
        0 => format!("no {several}"),
        1 => format!("one {one}"),
        many => format!("{many} {several}"),
    };
    let proves = match diagnosis.proves.as_slice() {
        [] => "This machine can prove nothing as it is".to_owned(),
        proves => format!("This machine can prove: {}", proves.join(", ")),
    };
    let (problems, warnings) =
        (count(Verdict::Problem, "problem", "problems"), count(Verdict::Warning, "warning", "warnings"));
    let _ = writeln!(text, "\n{proves}.\nFound: {problems} and {warnings}.");
    text
}

/// The same as one JSON object.
pub fn json(diagnosis: &Diagnosis) -> String {
    let checks: Vec<_> = diagnosis
        .checks
        .iter()
        .map(|check| {
            serde_json::json!({
                "check": check.name,
                "verdict": check.verdict.name(),
                "text": check.text,
                "remedy": check.remedy,
            })
        })
        .collect();
    let object = serde_json::json!({
        "version": CONTEMPLANT_VERSION,
        "proves": diagnosis.proves,
        "problems": diagnosis.count(Verdict::Problem),
        "warnings": diagnosis.count(Verdict::Warning),
        "checks": checks,
    });
    format!("{object:#}\n")
}
