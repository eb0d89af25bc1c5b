//! The command line: the supervisor itself, and the operator's commands.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand, ValueEnum};
use tracing::Level;

use crate::run::{Supervisor, VERSION, replace};
use crate::settings::Options;
use crate::table;
use crate::wire::message::{Command, CommandKind, Message};
use crate::wire::{Channel, Error};

/// Launches heirloom epochs, owns their sockets, keeps their statistics, and replaces one epoch by the next with nothing lost.
#[derive(Debug, Parser)]
#[command(name = "heirloom-supervisor", version = VERSION, args_conflicts_with_subcommands = true, args_override_self = true)]
#[command(
    override_usage = "heirloom-supervisor [OPTIONS] -- heirloom -c FILE …\n       heirloom-supervisor <COMMAND> [OPTIONS]"
)]
struct Arguments {
    #[command(subcommand)]
    operate: Option<Operate>,
    /// YAML file with the same keys as the flags
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Only check flags and file
    #[arg(long)]
    validate: bool,
    /// error, warn, info, debug or trace
    #[arg(long, default_value = "info")]
    log_level: Level,
    /// How to write log lines
    #[arg(long, default_value = "text")]
    log_format: LogFormat,
    #[command(flatten)]
    options: Options,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Operate {
    /// Show the lineage
    Status(Where),
    /// Replace the serving epoch, binary and configuration read anew; waits for the outcome
    Reload(Where),
    /// Go back to the previous binary and configuration; waits for the outcome
    Rollback(Where),
    /// Drain within the stop time and end
    Stop(Where),
    /// Drain within the parent shutdown time and end
    Drain(Where),
}

#[derive(Debug, clap::Args)]
struct Where {
    /// The supervisor's run directory
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// Answer as JSON
    #[arg(long)]
    json: bool,
    /// How long to wait for the outcome
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    wait_s: u32,
}

/// Everything the `heirloom-supervisor` command does.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.operate {
        Some(operate) => {
            let (kind, whereto) = match operate {
                Operate::Status(whereto) => (CommandKind::Status, whereto),
                Operate::Reload(whereto) => (CommandKind::Reload, whereto),
                Operate::Rollback(whereto) => (CommandKind::Rollback, whereto),
                Operate::Stop(whereto) => (CommandKind::Stop, whereto),
                Operate::Drain(whereto) => (CommandKind::Drain, whereto),
            };
            match operate_on(kind, &whereto) {
                Ok((text, well)) => {
                    print(&text);
                    ExitCode::from(u8::from(!well))
                }
                Err(reason) => fail(&reason),
            }
        }
        None => supervise(arguments),
    }
}

fn supervise(arguments: Arguments) -> ExitCode {
    let file = arguments.config.as_deref().map(Options::from_file).transpose();
    let settings = file.and_then(|file| arguments.options.or(file.unwrap_or_default()).settle());
    let settings = match settings {
        Ok(settings) => settings,
        Err(faults) => return fail(&faults),
    };
    let state = replace::inherited();
    if let Some(state) = state
        && replace::is_check()
    {
        return match replace::check(state) {
            Ok(()) => ExitCode::SUCCESS,
            Err(reason) => fail(&reason),
        };
    }
    if arguments.validate {
        print("the supervisor's configuration is OK");
        return ExitCode::SUCCESS;
    }
    let log = tracing_subscriber::fmt().with_max_level(arguments.log_level).with_writer(std::io::stderr);
    // A line that cannot be written, on a full disk or into a pipe that nobody reads any more, is lost; complaining about it in the same place would panic.
    let log = log.with_target(false).log_internal_errors(false);
    match arguments.log_format {
        LogFormat::Text => log.with_ansi(false).init(),
        LogFormat::Json => log.json().init(),
    }
    let supervisor = match state {
        Some(state) => Supervisor::resume(settings, state),
        None => Supervisor::new(settings),
    };
    match supervisor {
        Ok(supervisor) => ExitCode::from(supervisor.run()),
        Err(reason) => fail(&reason),
    }
}

/// Asks a running supervisor, and words its answer.
fn operate_on(kind: CommandKind, whereto: &Where) -> Result<(String, bool), String> {
    let options = Options::at(whereto.run_dir.clone());
    let channel = connect(&options.run_dirs())?;
    let deadline = Instant::now() + Duration::from_secs(whereto.wait_s.into());
    let command = Message::Command(Command { kind: kind.into() });
    let said = |error: Error| match error {
        Error::Closed => "the supervisor closed the connection without an answer".to_owned(),
        Error::TimedOut => format!("no answer within {} s; the supervisor goes on with it", whereto.wait_s),
        other => other.to_string(),
    };
    match channel.send(&command, &[], deadline) {
        // A refusal can come before the question; it is still there to be read.
        Ok(()) | Err(Error::Closed) => {}
        Err(error) => return Err(said(error)),
    }
    let answer = channel.recv(deadline).map_err(said)?.message;
    match answer {
        Message::Status(status) if whereto.json => json(&status).map(|text| (text, true)),
        Message::Status(status) => Ok((table::status(&status), true)),
        Message::Outcome(outcome) => {
            let well = outcome.ok;
            if whereto.json {
                return json(&outcome).map(|text| (text, well));
            }
            let report = outcome.report.trim_end();
            let text = if report.is_empty() { outcome.line } else { format!("{}\n{report}", outcome.line) };
            Ok((text, well))
        }
        Message::Refused(refused) => Err(refused.reason),
        other => Err(format!("the supervisor answered with {}", other.name())),
    }
}

/// The first run directory with a living supervisor.
fn connect(directories: &[PathBuf]) -> Result<Channel, String> {
    let mut complaint = String::new();
    for directory in directories {
        match Channel::connect(&directory.join("control.sock")) {
            Ok(channel) => return Ok(channel),
            Err(error) => {
                let separator = if complaint.is_empty() { "" } else { "\n" };
                complaint += &format!("{separator}no supervisor answers in {}: {error}", directory.display());
            }
        }
    }
    Err(complaint)
}

fn json(value: &impl serde::Serialize) -> Result<String, String> {
    serde_json::to_string_pretty(value).map_err(|error| error.to_string())
}

fn fail(reason: &str) -> ExitCode {
    complain(&format!("heirloom-supervisor: {reason}"));
    ExitCode::FAILURE
}

#[allow(clippy::print_stdout, reason = "the command's answer")]
fn print(text: &str) {
    println!("{}", text.trim_end());
}

#[allow(clippy::print_stderr, reason = "the command's complaint")]
fn complain(text: &str) {
    eprintln!("{}", text.trim_end());
}
