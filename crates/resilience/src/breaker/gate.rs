//! What most calls need to know of the breaker, in one atomic word.

use super::{
    Mode, Options, State,
    core::{Machine, Phase},
};

/// The machine's mode, phase and generation in one word.
#[derive(Clone, Copy)]
pub(super) struct Gate(u64);

const FULL: u64 = 1 << 4;
const GENERATION_SHIFT: u32 = 5;

impl Gate {
    pub(super) fn from_word(word: u64) -> Self {
        Self(word)
    }

    pub(super) fn word(self) -> u64 {
        self.0
    }

    pub(super) fn of(machine: &Machine, options: &Options) -> Self {
        let mode = match machine.mode {
            Mode::Enforce => 0,
            Mode::MetricsOnly => 1,
            Mode::Isolated => 2,
            Mode::Disabled => 3,
        };
        let phase = match machine.phase {
            Phase::Closed => 0,
            Phase::Open { .. } => 1 << 2,
            Phase::HalfOpen(trials) if trials.given >= options.half_open => 2 << 2 | FULL,
            Phase::HalfOpen(_) => 2 << 2,
        };
        Self(machine.generation << GENERATION_SHIFT | phase | mode)
    }

    pub(super) fn mode(self) -> Mode {
        match self.0 & 3 {
            0 => Mode::Enforce,
            1 => Mode::MetricsOnly,
            2 => Mode::Isolated,
            _ => Mode::Disabled,
        }
    }

    pub(super) fn state(self) -> State {
        match self.0 >> 2 & 3 {
            0 => State::Closed,
            1 => State::Open,
            _ => State::HalfOpen,
        }
    }

    /// Whether all trial calls are out.
    pub(super) fn full(self) -> bool {
        self.0 & FULL != 0
    }

    pub(super) fn generation(self) -> u64 {
        self.0 >> GENERATION_SHIFT
    }
}

#[cfg(test)]
mod tests {
    use weft_kernel::Tick;

    use super::*;
    use crate::breaker::core::Trials;

    #[test]
    fn the_gate_says_what_the_machine_says() {
        let options = Options::default();
        for mode in [Mode::Enforce, Mode::MetricsOnly, Mode::Isolated, Mode::Disabled] {
            for (phase, state, full) in [
                (Phase::Closed, State::Closed, false),
                (Phase::Open { until: Tick::NEVER }, State::Open, false),
                (Phase::HalfOpen(Trials::default()), State::HalfOpen, false),
                (
                    Phase::HalfOpen(Trials { given: 10, ..Default::default() }),
                    State::HalfOpen,
                    true,
                ),
            ] {
                let machine = Machine { phase, generation: 77, ..Machine::new(mode, Tick::ZERO) };
                let gate = Gate::of(&machine, &options);
                assert_eq!(
                    (gate.mode(), gate.state(), gate.full(), gate.generation()),
                    (mode, state, full, 77)
                );
            }
        }
    }
}
