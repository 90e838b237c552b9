//! The `weft` binary.

use std::process::ExitCode;

use clap::Parser;
use weft_kernel::memory;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Gives back to the system what the allocator keeps for the calling thread.
#[allow(
    unsafe_code,
    reason = "a C function without arguments that may be wrong, or a state to be in"
)]
fn give_back() {
    // SAFETY: the allocator may be asked to collect at any time, by any thread, as often as one likes.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

fn main() -> ExitCode {
    memory::give_back_by(give_back);
    weft::cli::Cli::parse().run().unwrap_or_else(|error| weft::cli::failed(&error))
}
