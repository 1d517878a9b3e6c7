//! Artifacts over one bare HTTP/1.1 connection, one transfer at a time.

use std::net::SocketAddr;

use anyhow::{Context as _, bail};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

/// What is read at once.
const BUFFER: usize = 256 << 10;

/// Longest text of a refusal that is read.
const MAX_TEXT: u64 = 1 << 20;

/// A connection that is kept from transfer to transfer.
#[derive(Debug)]
pub struct HttpConnection {
    stream: BufReader<TcpStream>,
    host: SocketAddr,
}

/// What a reply begins with.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    length: u64,
}

impl HttpConnection {
    /// Connects.
    ///
    /// # Errors
    /// When nobody accepts.
    pub async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.context("the HTTP port did not accept a connection")?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::with_capacity(BUFFER, stream), host: address })
    }

    /// Uploads `piece`, `times` times in a row, to this path and query.
    ///
    /// # Errors
    /// When it breaks off or is refused.
    pub async fn put(&mut self, target: &str, piece: &[u8], times: u64) -> anyhow::Result<()> {
        let length = piece.len() as u64 * times;
        let head = format!("PUT {target} HTTP/1.1\r\nhost: {}\r\ncontent-length: {length}\r\n\r\n", self.host);
        self.stream.write_all(head.as_bytes()).await?;
        for _ in 0..times {
            self.stream.write_all(piece).await.context("the upload broke off")?;
        }
        let head = self.head().await?;
        self.text(&head).await.context("the upload")?;
        Ok(())
    }

    /// Downloads what is at this path and query; answers how many bytes that were.
    ///
    /// # Errors
    /// When it breaks off or is refused.
    pub async fn get(&mut self, target: &str) -> anyhow::Result<u64> {
        let head = format!("GET {target} HTTP/1.1\r\nhost: {}\r\n\r\n", self.host);
        self.stream.write_all(head.as_bytes()).await?;
        let head = self.head().await?;
        if head.status != 200 {
            self.text(&head).await.context("the download")?;
        }
        let mut missing = head.length;
        while missing > 0 {
            let got = self.stream.fill_buf().await?.len();
            if got == 0 {
                bail!("the download broke off with {missing} bytes missing");
            }
            let used = u64::min(got as u64, missing);
            missing -= used;
            self.stream.consume(usize::try_from(used)?);
        }
        Ok(head.length)
    }

    /// Downloads what is at this path and query, wholly into memory.
    ///
    /// # Errors
    /// When it breaks off or is refused.
    pub async fn get_bytes(&mut self, target: &str) -> anyhow::Result<Vec<u8>> {
        let head = format!("GET {target} HTTP/1.1\r\nhost: {}\r\n\r\n", self.host);
        self.stream.write_all(head.as_bytes()).await?;
        let head = self.head().await?;
        if head.status != 200 {
            self.text(&head).await.context("the download")?;
        }
        let mut bytes = vec![0; usize::try_from(head.length)?];
        self.stream.read_exact(&mut bytes).await.context("the download broke off")?;
        Ok(bytes)
    }

    /// A short text.
    ///
    /// # Errors
    /// When it breaks off or is refused, with the text of the refusal.
    pub async fn get_text(&mut self, target: &str) -> anyhow::Result<String> {
        let head = format!("GET {target} HTTP/1.1\r\nhost: {}\r\n\r\n", self.host);
        self.stream.write_all(head.as_bytes()).await?;
        let head = self.head().await?;
        self.text(&head).await
    }

    async fn head(&mut self) -> anyhow::Result<Head> {
        let mut lines = String::new();
        while !lines.ends_with("\r\n\r\n") {
            if self.stream.read_line(&mut lines).await? == 0 || lines.len() > BUFFER {
                bail!("the reply broke off in its head");
            }
        }
        read_head(&lines)
    }

    /// The text of the reply.
    ///
    /// # Errors
    /// With the text, when the status is not 200.
    async fn text(&mut self, head: &Head) -> anyhow::Result<String> {
        let mut text = Vec::new();
        (&mut self.stream).take(head.length.min(MAX_TEXT)).read_to_end(&mut text).await?;
        let text = String::from_utf8_lossy(&text);
        if head.status == 200 {
            return Ok(text.into_owned());
        }
        bail!("HTTP status {}: {}", head.status, text.trim())
    }
}

fn read_head(lines: &str) -> anyhow::Result<Head> {
    let mut lines = lines.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("the reply has no status line")?;
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    // A refusal of an upload that still comes has no length and ends with the connection.
    Ok(Head { status: status.parse()?, length: length.unwrap_or(0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_length_are_read_off_a_head() {
        let head = read_head("HTTP/1.1 206 Partial Content\r\nETag: \"x\"\r\nContent-Length:  17\r\n\r\n").unwrap();
        assert_eq!(head, Head { status: 206, length: 17 });
        assert_eq!(read_head("HTTP/1.1 200 OK\r\n\r\n").unwrap().length, 0);
        assert!(read_head("\r\n\r\n").is_err());
    }
}
