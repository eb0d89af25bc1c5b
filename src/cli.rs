//! The command line: Envoy's flags, with Envoy's names and defaults.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::admin;

/// An Envoy-class L4/L7 proxy whose connections outlive its binaries.
#[derive(Clone, Debug, Parser)]
#[command(name = "heirloom", disable_version_flag = true)]
pub struct Arguments {
    /// Bootstrap file: YAML (.yaml, .yml) or JSON (.json)
    #[arg(short = 'c', long, value_name = "FILE")]
    pub config_path: Option<PathBuf>,

    /// Bootstrap as text, merged over the file
    #[arg(long, value_name = "TEXT")]
    pub config_yaml: Option<String>,

    /// Serve, or only check the configuration
    #[arg(long, value_enum, default_value_t = Mode::Serve)]
    pub mode: Mode,

    /// Worker threads [default: hardware threads]
    #[arg(long, value_name = "N")]
    pub concurrency: Option<u32>,

    /// trace, debug, info, warning, error, critical or off
    #[arg(short = 'l', long, value_name = "LEVEL", default_value = "info", value_parser = parse_level)]
    pub log_level: LogLevel,

    /// Log file, opened again on SIGUSR1 [default: standard error]
    #[arg(long, value_name = "FILE")]
    pub log_path: Option<PathBuf>,

    /// How a log line looks
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,

    /// Overrides node.cluster
    #[arg(long, value_name = "NAME")]
    pub service_cluster: Option<String>,

    /// Overrides node.id
    #[arg(long, value_name = "NAME")]
    pub service_node: Option<String>,

    /// Overrides node.locality.zone
    #[arg(long, value_name = "NAME")]
    pub service_zone: Option<String>,

    /// Shown in /server_info; nothing needs separating here, because no name is shared between instances
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub base_id: u32,

    /// Milliseconds after which access log lines that wait are written
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 10_000)]
    pub file_flush_interval_msec: u32,

    /// Kilobytes of access log lines that are written at once
    #[arg(long, value_name = "KILOBYTES", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub file_flush_min_size_kb: u32,

    /// Seconds over which a gradual drain closes connections
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub drain_time_s: u32,

    /// Seconds after which what still drains is closed
    #[arg(long, value_name = "SECONDS", default_value_t = 900)]
    pub parent_shutdown_time_s: u32,

    /// How a drain closes connections
    #[arg(long, value_enum, default_value_t = DrainStrategy::Gradual)]
    pub drain_strategy: DrainStrategy,

    /// Writes the admin address here once it is known
    #[arg(long, value_name = "FILE")]
    pub admin_address_path: Option<PathBuf>,

    /// Unknown fields of the bootstrap are warnings instead of errors
    #[arg(long)]
    pub allow_unknown_static_fields: bool,

    /// Prints the version
    #[arg(long)]
    pub version: bool,
}

/// `--mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Serve.
    Serve,
    /// Check the configuration, say so, exit.
    Validate,
}

/// `--log-format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// `[time][pid][level][module] message`.
    Text,
    /// One JSON object a line.
    Json,
}

/// `--drain-strategy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DrainStrategy {
    /// The chance of closing grows over the drain time.
    Gradual,
    /// Every response closes.
    Immediate,
}

/// `--log-level` with Envoy's words; `critical` is the same as `error` here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLevel(pub tracing::level_filters::LevelFilter);

fn parse_level(text: &str) -> Result<LogLevel, String> {
    use tracing::level_filters::LevelFilter;
    Ok(LogLevel(match text {
        "trace" => LevelFilter::TRACE,
        "debug" => LevelFilter::DEBUG,
        "info" => LevelFilter::INFO,
        "warning" | "warn" => LevelFilter::WARN,
        "error" | "critical" => LevelFilter::ERROR,
        "off" => LevelFilter::OFF,
        _ => return Err(format!("invalid log level specified '{text}'")),
    }))
}

impl Arguments {
    /// The command line as `/server_info` shows it: Envoy's names, all values in force.
    pub fn shown(&self) -> admin::Options {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        admin::Options {
            base_id: self.base_id.to_string(),
            concurrency: self.workers(),
            config_path: path(&self.config_path),
            config_yaml: text(&self.config_yaml),
            admin_address_path: path(&self.admin_address_path),
            log_level: self.log_level.0.to_string(),
            log_format: match self.log_format {
                LogFormat::Text => "text".to_owned(),
                LogFormat::Json => "json".to_owned(),
            },
            log_path: path(&self.log_path),
            service_cluster: text(&self.service_cluster),
            service_node: text(&self.service_node),
            service_zone: text(&self.service_zone),
            drain_time: format!("{}s", self.drain_time_s),
            parent_shutdown_time: format!("{}s", self.parent_shutdown_time_s),
            mode: match self.mode {
                Mode::Serve => "Serve",
                Mode::Validate => "Validate",
            },
            disable_hot_restart: false,
            restart_epoch: 0,
            drain_strategy: match self.drain_strategy {
                DrainStrategy::Gradual => "Gradual",
                DrainStrategy::Immediate => "Immediate",
            },
        }
    }

    /// The number of workers: what was asked for, at least one, else the hardware threads.
    pub fn workers(&self) -> usize {
        match self.concurrency {
            Some(count) => count.max(1) as usize,
            None => std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envoys_names_and_defaults() {
        let arguments = Arguments::try_parse_from(["heirloom", "-c", "x.yaml"]).unwrap();
        assert_eq!(arguments.drain_time_s, 600);
        assert_eq!(arguments.parent_shutdown_time_s, 900);
        assert_eq!(arguments.drain_strategy, DrainStrategy::Gradual);
        assert_eq!(arguments.mode, Mode::Serve);
        assert!(arguments.workers() >= 1);
        let arguments = Arguments::try_parse_from(["heirloom", "--config-path", "x", "--concurrency", "0"]).unwrap();
        assert_eq!(arguments.workers(), 1);
    }

    #[test]
    fn a_wrong_flag_is_named() {
        let error = Arguments::try_parse_from(["heirloom", "-l", "loud"]).unwrap_err().to_string();
        assert!(error.contains("invalid log level specified 'loud'"), "{error}");
        assert!(Arguments::try_parse_from(["heirloom", "--drain-strategy", "never"]).is_err());
        assert!(Arguments::try_parse_from(["heirloom", "--restart-epochs", "1"]).is_err());
    }
}
