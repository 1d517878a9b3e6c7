//! Whose fault a failed execution is.

use network_lib::{Fault, FaultClass};
use proving_sp1::execute::{bound, fault_of};
use proving_sp1_engine::ExecuteError;
use sp1_core_executor::ExecutionError;

fn class(error: ExecutionError) -> FaultClass {
    fault_of(ExecuteError::Execution(error), "", 5).class
}

#[test]
fn only_what_every_worker_would_see_is_the_guests_fault() {
    assert_eq!(class(ExecutionError::Breakpoint()), FaultClass::Guest);
    assert_eq!(class(ExecutionError::TooMuchMemory()), FaultClass::Guest);
    assert_eq!(class(ExecutionError::KilledByMemoryMonitor(25_600)), FaultClass::Resources);
    assert_eq!(class(ExecutionError::ChildKilled()), FaultClass::Resources);
    assert_eq!(class(ExecutionError::Other("failed to spawn child process".into())), FaultClass::Worker);
    assert_eq!(class(ExecutionError::Other("code: None, signal: Some(7)".into())), FaultClass::Resources);
    assert_eq!(class(ExecutionError::Other("CrashDetails { signal: 7, addr: 0 }".into())), FaultClass::Resources);
    let fault = fault_of(ExecuteError::Execution(ExecutionError::ExceededCycleLimit(6)), "", 5);
    assert_eq!(fault, Fault::guest("exceeded its cycle limit of 5"));
    let fault = fault_of(ExecuteError::Other("deferred proof 0 failed verification".into()), "", 5);
    assert_eq!(fault.class, FaultClass::Guest);
}

#[test]
fn a_limit_may_be_reached_and_none_is_none() {
    assert_eq!(bound(5), Some(6));
    assert_eq!(bound(0), None);
    assert_eq!(bound(u64::MAX), None);
}
