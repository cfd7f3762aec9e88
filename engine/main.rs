//! The `engine` binary.

/// Gives freed memory back to the system; glibc keeps a run's peak for good.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    isthmus::cli::run(std::env::args_os())
}
