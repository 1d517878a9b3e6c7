//! When open requests are to be ended.

use std::collections::{BTreeSet, HashMap};

use network_lib::RequestId;

use crate::Timestamp;

/// The deadlines of open requests, earliest first.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    by_time: BTreeSet<(Timestamp, RequestId)>,
    by_request: HashMap<RequestId, Timestamp>,
}

impl Deadlines {
    pub(super) fn watch(&mut self, request: RequestId, deadline: Timestamp) {
        self.forget(request);
        self.by_time.insert((deadline, request));
        self.by_request.insert(request, deadline);
    }

    pub(super) fn forget(&mut self, request: RequestId) {
        if let Some(deadline) = self.by_request.remove(&request) {
            self.by_time.remove(&(deadline, request));
        }
    }

    /// The requests whose deadline is not after `now`; they are not watched any more.
    pub(super) fn due(&mut self, now: Timestamp) -> impl Iterator<Item = RequestId> + use<> {
        let later = self.by_time.split_off(&(Timestamp::from_millis(now.as_millis() + 1), RequestId::new([0; 32])));
        let due = std::mem::replace(&mut self.by_time, later);
        for (_, request) in &due {
            self.by_request.remove(request);
        }
        due.into_iter().map(|(_, request)| request)
    }
}
