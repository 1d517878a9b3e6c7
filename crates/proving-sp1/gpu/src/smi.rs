//! What `nvidia-smi` says of a device: for people, so that nothing depends on it.

use std::{process::Stdio, time::Duration};

use tokio::{process::Command, time::timeout};

/// How long it may take. On a machine with many devices at rest it takes seconds.
const LIMIT: Duration = Duration::from_secs(20);

/// The name of a device and its memory in bytes, where they can be found out.
pub(crate) async fn describe(device: u32) -> Option<(String, u64)> {
    let output = Command::new("nvidia-smi")
        .args(["--query-gpu=name,memory.total", "--format=csv,noheader,nounits"])
        .arg(format!("--id={device}"))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(LIMIT, output).await.ok()?.ok().filter(|output| output.status.success())?;
    parse(&String::from_utf8_lossy(&output.stdout))
}

fn parse(text: &str) -> Option<(String, u64)> {
    let (name, mebibytes) = text.lines().next()?.rsplit_once(',')?;
    Some((name.trim().to_owned(), mebibytes.trim().parse::<u64>().ok()? << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_name_and_mebibytes() {
        assert_eq!(parse("NVIDIA H100 80GB HBM3, 81559\n"), Some(("NVIDIA H100 80GB HBM3".to_owned(), 81559 << 20)));
        assert_eq!(parse("No devices were found\n"), None);
        assert_eq!(parse("NVIDIA GB10, [N/A]\n"), None);
    }
}
