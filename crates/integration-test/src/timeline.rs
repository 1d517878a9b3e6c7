//! Where the time of a request went.

use std::time::Duration;

use serde::Deserialize;

use crate::client::Seen;

/// A request's history, as `GET /requests/{id}` tells it.
#[derive(Debug, Deserialize)]
pub(crate) struct Timeline {
    cycles: Option<u64>,
    attempts: u32,
    history: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    at_millis: u64,
    kind: String,
    worker: Option<String>,
}

impl Timeline {
    /// Makes sure that nothing was begun twice.
    ///
    /// # Errors
    /// When it was.
    pub(crate) fn require_one_attempt(&self) -> anyhow::Result<()> {
        anyhow::ensure!(self.attempts == 1, "it took {} attempts, not one", self.attempts);
        Ok(())
    }

    /// A few lines for people.
    pub(crate) fn report(&self, seen: &Seen) -> String {
        let waiting = self.between("accepted", "leased");
        let execution = self.between("leased", "executed");
        let proving = self.between("executed", "proved");
        let delivery = self.between("proved", "delivered");
        let verification = self.between("delivered", "fulfilled");
        let whole = self.between("accepted", "fulfilled");
        let worker = self.history.iter().find_map(|entry| entry.worker.as_deref()).unwrap_or("?");
        let cycles = self.cycles.map_or("?".to_owned(), |cycles| cycles.to_string());
        let overhead = waiting.zip(delivery).map(|(waiting, delivery)| waiting + delivery);
        [
            seen.report(),
            format!("worker         {worker}"),
            format!("cycles         {cycles}"),
            format!("attempts       {}", self.attempts),
            format!("waiting        {}", millis(waiting)),
            format!("execution      {} (fetching program and input included)", millis(execution)),
            format!("proving        {}", millis(proving)),
            format!("delivery       {}", millis(delivery)),
            format!("verification   {} (by the coordinator)", millis(verification)),
            format!("in all         {}", millis(whole)),
            format!("overhead       {} of it the network's own: waiting and delivery", millis(overhead)),
        ]
        .join("\n")
    }

    /// Time from the first event of one kind to the last of another.
    fn between(&self, from: &str, to: &str) -> Option<Duration> {
        let from = self.history.iter().find(|entry| entry.kind == from)?;
        let to = self.history.iter().rfind(|entry| entry.kind == to)?;
        Some(Duration::from_millis(to.at_millis.saturating_sub(from.at_millis)))
    }
}

pub(crate) fn millis(time: Option<Duration>) -> String {
    time.map_or("?".to_owned(), |time| format!("{:>8} ms", time.as_millis()))
}
