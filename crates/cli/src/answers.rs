//! What hosts tell of their present state: rows as they come, and who did not answer.

use crate::client::Client;
use serde_json::Value;
use std::io::BufRead as _;

/// Bytes of one row at most; a server that sends more is none of ours.
const ROW_LEN_MAX: usize = 1 << 20;

/// Rows on their way from the API.
#[derive(Debug)]
pub(crate) struct Answers {
    response: reqwest::Response,
    /// What came and was not taken; the last line may be incomplete.
    buffer: Vec<u8>,
    taken: usize,
    ended: bool,
    silent: Vec<Silent>,
}

/// A host that did not tell all it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Silent {
    pub(crate) host: String,
    pub(crate) reason: String,
}

impl std::fmt::Display for Silent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "host '{}' did not answer: {}", self.host, self.reason)
    }
}

impl Answers {
    pub(crate) fn new(response: reqwest::Response) -> Self {
        Self { response, buffer: Vec::new(), taken: 0, ended: false, silent: Vec::new() }
    }

    /// The next row as it came; none: all were told.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<&[u8]>> {
        let Some((start, end)) = self.line().await? else { return Ok(None) };
        self.taken = end + 1;
        Ok(self.buffer.get(start..end))
    }

    /// Where the next row is in the buffer.
    async fn line(&mut self) -> anyhow::Result<Option<(usize, usize)>> {
        loop {
            let rest = self.buffer.get(self.taken..).unwrap_or_default();
            // Faster than a search by byte: a million rows are half a gigabyte.
            let read = { rest }.skip_until(b'\n')?;
            if let Some((b'\n', line)) = rest.get(..read).and_then(<[u8]>::split_last) {
                let len = line.len();
                if line.starts_with(br#"{"hosts":"#) {
                    self.silent = silent(line);
                    self.ended = true;
                    self.taken += len + 1;
                    continue;
                }
                return Ok(Some((self.taken, self.taken + len)));
            }
            if self.buffer.len() - self.taken > ROW_LEN_MAX {
                anyhow::bail!("the API sends no rows; is it a Nanboku API?");
            }
            self.buffer.drain(..std::mem::take(&mut self.taken));
            match self.response.chunk().await {
                Ok(Some(chunk)) => self.buffer.extend_from_slice(&chunk),
                Ok(None) if self.ended => return Ok(None),
                Ok(None) => anyhow::bail!("the answer broke off: the controller ended it"),
                Err(error) => return Err(anyhow::Error::new(error).context("the answer broke off")),
            }
        }
    }

    /// Known when there are no more rows.
    pub(crate) fn silent(&self) -> &[Silent] {
        &self.silent
    }

    /// Says on standard error who did not answer.
    pub(crate) fn warn(&self) {
        for silent in &self.silent {
            eprintln!("nanboku: {silent}");
        }
    }
}

fn silent(line: &[u8]) -> Vec<Silent> {
    let line: Value = serde_json::from_slice(line).unwrap_or_default();
    let hosts = line.get("hosts").and_then(Value::as_array).into_iter().flatten();
    let text = |host: &Value, key: &str| host.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    hosts
        .filter(|host| host.get("answered") != Some(&Value::Bool(true)))
        .map(|host| Silent { host: text(host, "host"), reason: text(host, "reason") })
        .collect()
}

/// All rows, host by host; who did not answer is said on standard error.
pub(crate) async fn all(client: &Client, path: &str, query: &[(&str, &str)]) -> anyhow::Result<Vec<Value>> {
    let mut answers = client.answers(path, query).await?;
    let mut rows = Vec::new();
    while let Some(row) = answers.next().await? {
        rows.push(serde_json::from_slice(row)?);
    }
    answers.warn();
    // Stable: within a host the order is the host's.
    rows.sort_by_key(|row: &Value| row.get("host").map(Value::to_string));
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A response without a server.
    fn answers(body: &'static str) -> Answers {
        Answers::new(http::Response::new(body).into())
    }

    #[tokio::test]
    async fn rows_come_one_by_one_and_silent_hosts_are_known_at_the_end() {
        let mut answers = answers(concat!(
            "{\"n\":1}\n{\"n\":2}\n",
            "{\"hosts\":[{\"host\":\"ahv01\",\"answered\":true,\"reason\":null},",
            "{\"host\":\"ahv03\",\"answered\":false,\"reason\":\"it is not connected\"}]}\n",
        ));
        assert_eq!(answers.next().await.unwrap(), Some(&b"{\"n\":1}"[..]));
        assert_eq!(answers.next().await.unwrap(), Some(&b"{\"n\":2}"[..]));
        assert_eq!(answers.next().await.unwrap(), None);
        assert_eq!(answers.silent()[0].to_string(), "host 'ahv03' did not answer: it is not connected");
    }

    #[tokio::test]
    async fn an_answer_that_stops_in_the_middle_is_no_answer() {
        let mut answers = answers("{\"n\":1}\n{\"n\":");
        assert!(answers.next().await.unwrap().is_some());
        assert!(answers.next().await.unwrap_err().to_string().contains("broke off"));
    }
}
