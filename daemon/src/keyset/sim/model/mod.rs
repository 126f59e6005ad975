//! The model test: whole histories of an appliance, drawn at random, over the real plan, acts and apply.
//! What has to hold is checked at every write and by every verifier (`sim::witness`,
//! `sim::verifiers`); at the end of each history the faults end, and the steady state has to come back.
//!
//! `MINTWARDEN_MODEL_HISTORIES` says how many histories; a failing one is kept as a seed in
//! `proptest-regressions/`.

mod event;
mod history;
mod recovery;

use proptest::{prelude::ProptestConfig, test_runner::Config};
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

use event::Event;
use history::{Circumstances, History};

use super::world::World;

/// Enough to see a rule that is broken in the usual course of things, in a few seconds.
const HISTORIES: u32 = 100;

#[expect(clippy::disallowed_methods, reason = "a test is told by the environment how long it runs")]
fn histories() -> Config {
    let said = std::env::var("MINTWARDEN_MODEL_HISTORIES").ok();
    let cases = said.map_or(HISTORIES, |said| said.parse().expect("a number of histories"));
    ProptestConfig { cases, max_shrink_time: 60_000, ..ProptestConfig::default() }
}

/// What can be said of a history without knowing what the appliance makes of it: the circumstances, so
/// that faults are mended now and then.
struct Reference;

impl ReferenceStateMachine for Reference {
    type State = Circumstances;
    type Transition = Event;

    fn init_state() -> proptest::strategy::BoxedStrategy<Circumstances> {
        Circumstances::any()
    }

    fn transitions(state: &Circumstances) -> proptest::strategy::BoxedStrategy<Event> {
        Event::any(state)
    }

    fn apply(mut state: Circumstances, event: &Event) -> Circumstances {
        state.follow(event);
        state
    }
}

struct Appliance;

impl StateMachineTest for Appliance {
    type SystemUnderTest = History;
    type Reference = Reference;

    fn init_test(circumstances: &Circumstances) -> History {
        History::begin(World::initialised(circumstances.policy.clone()))
    }

    fn apply(mut history: History, _: &Circumstances, event: Event) -> History {
        history.happens(&event);
        history
    }

    fn teardown(mut history: History, _: Circumstances) {
        history.ends_well();
    }
}

prop_state_machine! {
    #![proptest_config(histories())]

    #[test]
    fn i4_i5_i6_i7_i8_no_history_leaves_a_good_token_unverified(sequential 1..40 => Appliance);
}
