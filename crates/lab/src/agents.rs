//! What the agents of a lab say of themselves.

use serde_json::Value;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The agent's own account of itself, as `nanboku status` asks for it.
pub(crate) async fn status(socket: &Path) -> Result<Value, String> {
    let ask = async {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(b"{\"request\":\"status\"}\n").await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok::<_, std::io::Error>(text)
    };
    let text = timeout(ANSWER_TIMEOUT, ask).await.map_err(|_| "the agent does not answer".to_owned())?;
    let text = text.map_err(|error| format!("the agent at {}: {error}", socket.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("the agent's answer: {error}"))
}
