//! `nanboku agent`.

use agent::config::{Config, Flags};

/// The agent's own flags; each wins over the configuration file.
pub(crate) type AgentArgs = Flags;

pub(crate) async fn run(flags: AgentArgs) -> anyhow::Result<()> {
    let config = Config::load(&flags)?;
    Ok(agent::run(config).await?)
}
