//! Lists of requests: what of a filter the store answers, and what is sifted here.

use std::sync::Arc;

use hierophant_core::{Request, Timestamp};
use sp1_network_api::network::{FulfillmentStatus, GetFilteredProofRequestsRequest, ProofRequest, SettlementStatus};

use super::{fields, refusal::Refusal, reply};
use crate::{
    service::{RequestStatus, Service},
    store::RequestFilter,
};

/// Length of a page that does not say its own.
const DEFAULT_LIMIT: u32 = 10;
/// Longest page: a hundred requests with their causes stay far under the 4 MiB that clients take.
const MAX_LIMIT: u32 = 100;
/// Rows that are looked at in one go, when something has to be sifted here.
const CHUNK: u32 = 500;
/// Chunks that are looked at in all: a list must not cost more than a bounded amount.
const MAX_CHUNKS: u32 = 20;

const FULFILLMENT_STATUSES: &[&str] =
    &["unspecified", "requested", "assigned", "fulfilled", "unfulfillable", "reverted", "expired"];
const EXECUTION_STATUSES: &[&str] = &["unspecified", "unexecuted", "executed", "unexecutable", "validation failed"];
const EXECUTE_FAILURES: &[&str] = &[
    "unspecified",
    "halt with non-zero exit code",
    "invalid memory access",
    "unsupported syscall",
    "breakpoint",
    "exceeded cycle limit",
    "invalid syscall usage",
    "unimplemented",
    "end in unconstrained",
    "exceeded gas limit",
];
const SETTLEMENT_STATUSES: &[&str] = &["unspecified", "unsettled", "settled"];
const ERRORS: &[&str] = &[
    "unspecified",
    "execution failure",
    "verification key mismatch",
    "unknown failure",
    "public values mismatch",
    "verification failure",
    "proving failure",
];

/// Which requests a client wants to see.
#[derive(Debug)]
pub(super) struct Listing {
    /// What the store can answer. Its page is set when asking.
    filter: RequestFilter,
    /// What is derived here, and sifted here.
    sieve: Sieve,
    skip: u32,
    limit: u32,
    /// Nothing can pass.
    is_empty: bool,
}

/// Facts that no row has. Fields that are `None` match everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Sieve {
    execution_status: Option<i32>,
    execute_fail_cause: Option<i32>,
    error: Option<i32>,
}

impl Sieve {
    fn admits(&self, request: &ProofRequest) -> bool {
        let fits = |wanted: Option<i32>, actual| wanted.is_none_or(|wanted| wanted == actual);
        fits(self.execution_status, request.execution_status)
            && fits(self.execute_fail_cause, request.execute_fail_cause)
            && fits(self.error, request.error)
    }
}

impl TryFrom<GetFilteredProofRequestsRequest> for Listing {
    type Error = Refusal;

    /// Reads every filter that has a meaning here. `not_bid_by` has none: nobody bids, so every request passes.
    fn try_from(request: GetFilteredProofRequestsRequest) -> Result<Self, Refusal> {
        let number = |field, number: Option<i32>, meanings| {
            number.map(|number| fields::one_of(field, number, meanings)).transpose()
        };
        let page = request.page.unwrap_or(1);
        if page == 0 {
            return Err(Refusal::rejected("page 0 does not exist: pages count from 1"));
        }
        let limit = request.limit.unwrap_or(DEFAULT_LIMIT).min(MAX_LIMIT);
        let mut is_empty = false;

        let mut states = Vec::new();
        if let Some(status) = number("fulfillment_status", request.fulfillment_status, FULFILLMENT_STATUSES)? {
            let named = FulfillmentStatus::try_from(status).map(reply::states_with).unwrap_or_default();
            states.extend_from_slice(named);
            is_empty |= named.is_empty();
        }
        let worker = match request.fulfiller.as_deref() {
            Some(address) => {
                let worker = reply::worker_of(fields::bytes("fulfiller", address)?);
                is_empty |= worker.is_none();
                worker
            }
            None => None,
        };
        // Nothing is paid for here, so nothing is settled or to be settled.
        let settlement = number("settlement_status", request.settlement_status, SETTLEMENT_STATUSES)?;
        is_empty |= settlement.is_some_and(|status| status != SettlementStatus::Unspecified as i32);

        let filter = RequestFilter {
            requester: request.requester.as_deref().map(|value| fields::address("requester", value)).transpose()?,
            vk_hash: request.vk_hash.as_deref().map(|value| fields::digest("vk_hash", value)).transpose()?,
            mode: request.mode.map(fields::proof_mode).transpose()?,
            states,
            circuit_version: request.version,
            min_deadline: request.minimum_deadline.map(Timestamp::from_secs),
            worker,
            created_from: request.from.map(Timestamp::from_secs),
            created_to: request.to.map(end_of_second),
            ..RequestFilter::default()
        };
        let sieve = Sieve {
            execution_status: number("execution_status", request.execution_status, EXECUTION_STATUSES)?,
            execute_fail_cause: number("execute_fail_cause", request.execute_fail_cause, EXECUTE_FAILURES)?,
            error: number("error", request.error, ERRORS)?,
        };
        Ok(Self { filter, sieve, skip: (page - 1).saturating_mul(limit), limit, is_empty })
    }
}

/// The last moment of a second, so that a whole second is included.
fn end_of_second(secs: u64) -> Timestamp {
    Timestamp::from_millis(Timestamp::from_secs(secs).as_millis().saturating_add(999))
}

impl Listing {
    /// The page that was asked for, newest first.
    pub(super) async fn fetch(mut self, service: &Service) -> Result<Vec<ProofRequest>, Refusal> {
        if self.is_empty || self.limit == 0 {
            return Ok(Vec::new());
        }
        if self.sieve == Sieve::default() {
            self.filter.offset = self.skip;
            self.filter.limit = self.limit;
            return Ok(service.requests(&self.filter).await?.into_iter().map(entry).collect());
        }
        let mut page = Vec::new();
        let mut to_skip = self.skip;
        self.filter.limit = CHUNK;
        for chunk in 0..MAX_CHUNKS {
            self.filter.offset = chunk * CHUNK;
            let rows = service.requests(&self.filter).await?;
            let is_last = rows.len() < CHUNK as usize;
            for request in rows.into_iter().map(entry).filter(|request| self.sieve.admits(request)) {
                if to_skip > 0 {
                    to_skip -= 1;
                } else {
                    page.push(request);
                    if page.len() == self.limit as usize {
                        return Ok(page);
                    }
                }
            }
            if is_last {
                break;
            }
        }
        Ok(page)
    }
}

/// A request in a list, which does not say why it waits.
fn entry(request: Arc<Request>) -> ProofRequest {
    reply::details(&RequestStatus { request, waiting: None })
}
