//! `nanboku server`.

use anyhow::Context as _;
use clap::{Args, Subcommand};
use controller::bootstrap::{self, CLOUD, Options};
use controller::config::{Config, Flags};
use std::path::PathBuf;

#[derive(Args, Debug)]
pub(crate) struct ServerArgs {
    /// The controller's own; each wins over the configuration file.
    #[command(flatten)]
    flags: Flags,
    #[command(subcommand)]
    command: Option<ServerCommand>,
}

impl ServerArgs {
    /// Runs until stopped.
    pub(crate) fn is_daemon(&self) -> bool {
        self.command.is_none()
    }
}

#[derive(Debug, Subcommand)]
enum ServerCommand {
    /// Make the first administrator and a clouds.yaml to log in with, while the server is stopped. Again: a new
    /// password.
    Bootstrap(BootstrapArgs),
}

#[derive(Args, Debug)]
struct BootstrapArgs {
    /// Where to write the clouds.yaml; it must not exist.
    #[arg(long, value_name = "FILE", default_value = "clouds.yaml")]
    clouds_yaml: PathBuf,
    /// How clients reach the API [default: where it listens].
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// File whose first line is the password [default: a random password].
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

pub(crate) async fn run(args: ServerArgs) -> anyhow::Result<()> {
    let config = Config::load(&args.flags)?;
    match args.command {
        None => Ok(controller::server::run(config).await?),
        Some(ServerCommand::Bootstrap(args)) => {
            tokio::task::spawn_blocking(move || make_administrator(&config, args)).await?
        }
    }
}

fn make_administrator(config: &Config, args: BootstrapArgs) -> anyhow::Result<()> {
    let BootstrapArgs { clouds_yaml, url, password_file } = args;
    let password = password_file.map(|path| {
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let first = text.lines().next().filter(|line| !line.is_empty()).map(str::to_owned);
        first.with_context(|| {
            format!("the first line of {} is empty: it should be the password", path.display())
        })
    });
    let password = password.transpose()?;
    let path = clouds_yaml.display().to_string();
    bootstrap::bootstrap(config, Options { clouds_yaml, url, password })?;
    super::print(&format!(
        "{path}\nLog in with: OS_CLIENT_CONFIG_FILE={path} openstack --os-cloud {CLOUD} token issue\n"
    ));
    Ok(())
}
