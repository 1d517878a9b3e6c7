use network_lib::AttemptId;

use super::*;

fn parsed(text: &str) -> Script {
    Script::parse(text, Origin::Operator).unwrap()
}

fn problem(text: &str, origin: Origin) -> String {
    Script::parse(text, origin).unwrap_err().to_string()
}

/// Notes what it is asked for.
#[derive(Default)]
struct Notes(Vec<String>);

#[async_trait]
impl Host for Notes {
    async fn execute(&mut self, cycles: u64) -> Result<(), Fault> {
        self.0.push(format!("execute {cycles}"));
        Ok(())
    }

    async fn prove(&mut self, form: ProofForm) -> Result<(), Fault> {
        self.0.push(format!("prove {}", form.padding));
        Ok(())
    }
}

async fn play(script: &Script) -> (Result<(), Fault>, Vec<String>) {
    let mut notes = Notes::default();
    let reporter = Reporter::new(AttemptId::new([1; 16]), |_| {});
    let outcome = Player::default().play(script, &reporter, &mut notes).await;
    (outcome, notes.0)
}

#[tokio::test]
async fn a_script_proves_once_and_at_its_end_if_it_does_not_say_where() {
    assert_eq!(play(&parsed("")).await, (Ok(()), vec!["prove 0".to_owned()]));
    assert_eq!(
        play(&parsed("prove 7\nexecuted 3")).await,
        (Ok(()), vec!["prove 7".to_owned(), "execute 3".to_owned()])
    );
    let (outcome, notes) = play(&parsed("# a word\n\nresources the disk is full\nprove")).await;
    assert_eq!((outcome, notes.len()), (Err(Fault::resources("the disk is full")), 0));
}

#[tokio::test]
async fn a_prover_with_a_machine_executes_first_unless_the_script_says_where() {
    let executing = |text| async move { play(&parsed(text).executing_first()).await.1 };
    assert_eq!(executing("prove").await, ["execute 0", "prove 0"]);
    assert_eq!(executing("prove\nexecuted").await, ["prove 0", "execute 0"]);
}

#[test]
fn a_line_that_is_no_step_is_named_with_what_is_wrong() {
    let said = |text| problem(text, Origin::Operator);
    assert_eq!(said("prove\nfrobnicate 3"), "line 2 of the script: \"frobnicate\" is not a step");
    assert_eq!(said("work soon"), "line 1 of the script: \"soon\" is not a time: write it like 500ms");
    assert_eq!(said("memory much"), "line 1 of the script: \"much\" is not a size: write it like 512MiB");
    assert!(said("forge money").contains("use program, mode, circuit, values or nothing"));
    assert!(said("prove -1").contains("is not a number"));
    assert!(said("phase lunch").contains("is not a phase"));
    assert!(Script::parse("prove\nend\n\u{0}frobnicate", Origin::Operator).is_ok());
}

#[test]
fn a_request_names_no_files_of_the_provers_machine() {
    for step in ["wait /x", "mark /x", "offspring /x"] {
        assert!(Script::parse(step, Origin::Operator).is_ok());
        assert!(problem(step, Origin::Request).contains("a request may not"));
    }
}

#[test]
fn a_script_is_found_among_the_values_of_an_input() {
    let text = format!("{MARKER}\nguest no");
    let in_bincode = bincode::serialize(&text).unwrap();
    for value in [text.as_bytes(), &in_bincode] {
        let found = Script::among([[0; 4].as_slice(), value]).unwrap().unwrap();
        assert_eq!(found.steps, [Step::Fail(Fault::guest("no"))]);
    }
    assert_eq!(Script::among([b"guest no".as_slice(), &[]]), None);
    let bad = format!("{MARKER}\nmark /x");
    assert!(Script::among([bad.as_bytes()]).unwrap().is_err());
}

#[test]
fn a_forged_proof_claims_something_else_and_a_padded_one_the_same() {
    let claim = || MockClaim {
        vk_hash: [1; 32],
        mode: ProofMode::Core,
        circuit_version: CircuitVersion::new("c"),
        public_values_hash: [2; 32],
    };
    let made = |padding, forgery| ProofForm { padding, forgery }.finish(vec![9; 3], claim());
    assert_eq!(crate::mock::read_claim(&made(100, None)), Some(claim()));
    assert_eq!(made(100, None).len(), made(0, None).len() + 100);
    for forgery in [Forgery::Program, Forgery::Mode, Forgery::Circuit, Forgery::Values] {
        let forged = crate::mock::read_claim(&made(0, Some(forgery)));
        assert!(forged.is_some_and(|forged| forged != claim()), "{forgery:?}");
    }
    assert_eq!(crate::mock::read_claim(&made(0, Some(Forgery::Nothing))), None);
}
