//! The `engine` binary.

fn main() -> std::process::ExitCode {
    isthmus::cli::run(std::env::args_os())
}
