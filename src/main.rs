//! The program `certdir`: [`arguments`] and [`config`] read what a person typed, one module for each group of commands
//! carries it out, [`output`] prints, [`error`] says how it ends.
//!
//! [`serve`] wires the store, its follower, upkeep and the front ends; [`demo`] does so with sample domains; [`dns_policy`]
//! reads what one DNS source may get, [`tls`] looks after the certificate that servers show, [`secret_file`] refuses files
//! with secrets that others can read. [`publish`]
//! (with [`reading`] for files) and [`admin`] change the data folder, or a running directory through [`remote`]. [`look`]
//! shows what is there, [`resolve`] looks from outside. [`clock`] is the only place that reads the time.

mod admin;
mod arguments;
mod clock;
mod config;
mod demo;
mod dns_policy;
mod error;
mod look;
mod output;
mod publish;
mod reading;
mod remote;
mod resolve;
mod secret_file;
mod serve;
mod tls;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches};
use tracing_subscriber::EnvFilter;

use crate::arguments::{Arguments, Command};
use crate::error::{Error, Exit};

/// Millions of small values live as long as the process, and what the store reads is freed by another thread than allocated it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    // Known before the command line is read, so that its errors are JSON, too.
    let json = arguments.iter().any(|argument| argument == "--json");
    let filter = EnvFilter::try_from_env("CERTDIR_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    let parsed = match config::matches(Arguments::command(), arguments) {
        Ok(Ok(matches)) => Arguments::from_arg_matches(&matches).map(|mut parsed| {
            parsed.everywhere.data_named = matches.value_source("data") == Some(ValueSource::CommandLine);
            parsed
        }),
        Ok(Err(error)) => Err(error),
        Err(error) => return fail(&error, json),
    };
    let arguments = match parsed {
        Ok(arguments) => arguments,
        Err(error) if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            return ExitCode::from(1);
        }
        // 1 and not clap's 2, which is a verdict here.
        Err(error) if error.use_stderr() => return fail(&Error::Usage(usage(&error)), json),
        Err(help) => return ExitCode::from(u8::from(help.print().is_err())),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&Error::Output(error), json),
    };
    match runtime.block_on(run(arguments)) {
        Ok(exit) => exit.into(),
        // Whoever reads the output has seen enough.
        Err(Error::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => fail(&error, json),
    }
}

async fn run(arguments: Arguments) -> Result<Exit, Error> {
    let everywhere = arguments.everywhere;
    match arguments.command {
        Command::Demo(listen) => demo::demo(&everywhere, listen).await,
        Command::Serve(listen) => serve::serve(&everywhere, listen).await,
        Command::Domain(command) => admin::domain(&everywhere, command).await,
        Command::Token(command) => admin::token(&everywhere, command).await,
        Command::Publish(publish) => publish::publish(&everywhere, publish).await,
        Command::Withdraw(withdraw) => publish::withdraw(&everywhere, withdraw).await,
        Command::Show { address } => look::show(&everywhere, &address).await,
        Command::History { address } => look::history(&everywhere, &address).await,
        Command::List(list) => look::list(&everywhere, list).await,
        Command::Changes { since, follow, remote } => look::changes(&everywhere, since, follow, &remote).await,
        Command::Zone(command) => look::zone(&everywhere, command).await,
        Command::Resolve(arguments) => resolve::resolve(&everywhere, arguments).await,
    }
}

/// The one line of an error of the command line; clap gives several.
fn usage(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let told = lines.iter().take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"));
    let line = told.copied().collect::<Vec<_>>().join(" ");
    format!("{} (see: certdir --help)", line.trim_start_matches("error: "))
}

#[expect(clippy::print_stderr, reason = "the one line of an error")]
fn fail(error: &Error, json: bool) -> ExitCode {
    if json {
        eprintln!("{}", serde_json::json!({ "error": { "code": error.code(), "message": error.to_string() } }));
    } else {
        // One line, whatever an outside name in it holds.
        eprintln!("certdir: {}", output::plain(&error.to_string()).replace('\n', " "));
    }
    ExitCode::from(1)
}
