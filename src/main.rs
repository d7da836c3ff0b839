//! The `peselgate` binary: the allocator and the exit status; all else is in the
//! library.

// Returns freed pages after whole-register swaps.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    peselgate::cli::run(std::env::args_os())
}
