//! `nanboku server`.

use controller::config::{Config, Flags};

/// The controller's own flags; each wins over the configuration file.
pub(crate) type ServerArgs = Flags;

pub(crate) async fn run(flags: ServerArgs) -> anyhow::Result<()> {
    let config = Config::load(&flags)?;
    Ok(controller::server::run(config).await?)
}
