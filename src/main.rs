//! The `heirloom` command: arguments, the log, the server, the exit status.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is where the command line speaks")]

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use heirloom::access_log::Settings;
use heirloom::cli::{Arguments, DrainStrategy, Mode};
use heirloom::config::{self, LoadOptions, Source};
use heirloom::drain::Strategy;
use heirloom::http::filters;
use heirloom::{logging, server};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What `--version` prints.
const VERSION: &str = concat!("heirloom ", env!("CARGO_PKG_VERSION"));

fn main() -> ExitCode {
    refuse_huge_pages();
    // Envoy exits with 1 for a wrong command line; clap alone would say 2.
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    if arguments.version {
        println!("{VERSION}");
        return ExitCode::SUCCESS;
    }
    let source = Source { path: arguments.config_path.clone(), yaml: arguments.config_yaml.clone() };
    let load = LoadOptions {
        service_cluster: arguments.service_cluster.clone(),
        service_node: arguments.service_node.clone(),
        service_zone: arguments.service_zone.clone(),
        allow_unknown_static_fields: arguments.allow_unknown_static_fields,
        http_filters: filters::kinds(&[]),
        network_filters: Vec::new(),
    };
    match arguments.mode {
        Mode::Validate => validate(&source, &load),
        Mode::Serve => serve(&arguments, source, load),
    }
}

/// Keeps the system from backing the heap with huge pages where it does so unasked (`transparent_hugepage/enabled` set to
/// `always`): each costs two megabytes from its first byte, and a proxy's heap is small and scattered. That the allocator does
/// not ask for them either is its `no_thp` feature.
fn refuse_huge_pages() {
    // A system that does not know the flag has no huge pages to refuse.
    let _ = nix::sys::prctl::set_thp_disable(true);
}

fn validate(source: &Source, load: &LoadOptions) -> ExitCode {
    match config::load(source, load) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                eprintln!("{warning}");
            }
            let name = source.path.as_ref().map(|path| path.display().to_string());
            println!("configuration '{}' OK", name.unwrap_or_default());
            ExitCode::SUCCESS
        }
        Err(faults) => {
            eprintln!("{faults}");
            ExitCode::FAILURE
        }
    }
}

fn serve(arguments: &Arguments, source: Source, load: LoadOptions) -> ExitCode {
    let log = match logging::install(arguments.log_path.as_deref(), arguments.log_format, arguments.log_level) {
        Ok(log) => log,
        Err(error) => {
            let path = arguments.log_path.as_deref().unwrap_or_else(|| "standard error".as_ref());
            eprintln!("cannot open the log '{}': {error}", path.display());
            return ExitCode::FAILURE;
        }
    };
    let reopen = log.reopen.clone();
    let options = server::Options {
        source,
        load,
        concurrency: arguments.workers(),
        drain_time: Duration::from_secs(arguments.drain_time_s.into()),
        parent_shutdown_time: Duration::from_secs(arguments.parent_shutdown_time_s.into()),
        drain_strategy: match arguments.drain_strategy {
            DrainStrategy::Gradual => Strategy::Gradual,
            DrainStrategy::Immediate => Strategy::Immediate,
        },
        admin_address_path: arguments.admin_address_path.clone(),
        version: VERSION.to_owned(),
        access_logs: Settings {
            interval: Duration::from_millis(arguments.file_flush_interval_msec.max(1).into()),
            enough: (arguments.file_flush_min_size_kb.max(1) as usize) << 10,
        },
        command_line: arguments.shown(),
        http_filters: &[],
        network_filters: &[],
        reopen_logs: Box::new(move || reopen.request()),
    };
    match server::run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            drop(log);
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}
