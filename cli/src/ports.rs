//! The ports an instance listens on. A port that was picked freely is picked again at the next start where it still is
//! free, so that addresses given to others (webhooks, bookmarks) go on working.
//! Deliberately absent: a guarantee. Whoever needs a certain port names it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpListener;

use crate::data_dir::{DataDir, write_private};
use crate::failure::Advise;

/// The ports by what listens there.
#[derive(Debug, Default)]
pub struct Ports(BTreeMap<String, u16>);

impl Ports {
    /// Those of the last start; none when nothing is known.
    pub fn remembered(data_dir: &DataDir) -> Self {
        let text = std::fs::read_to_string(data_dir.ports()).unwrap_or_default();
        Ports(serde_json::from_str(&text).unwrap_or_default())
    }

    /// Keeps them for the next start.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn keep(&self, data_dir: &DataDir) -> anyhow::Result<()> {
        write_private(&data_dir.ports(), &serde_json::to_string_pretty(&self.0)?)
    }

    /// Listens on a loopback port of its own.
    ///
    /// # Errors
    /// When none is free.
    pub async fn listen(&mut self, name: &str) -> anyhow::Result<(TcpListener, SocketAddr)> {
        self.listen_on(name, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
            .await
    }

    /// Listens on this address; with port 0 on one that is free.
    ///
    /// # Errors
    /// When the port is taken, saying what to do.
    pub async fn listen_on(
        &mut self,
        name: &str,
        address: SocketAddr,
    ) -> anyhow::Result<(TcpListener, SocketAddr)> {
        let again = self.0.get(name).filter(|_| address.port() == 0);
        let again = match again {
            Some(port) => TcpListener::bind((address.ip(), *port)).await.ok(),
            None => None,
        };
        let listener = match again {
            Some(listener) => listener,
            None => TcpListener::bind(address).await.advise(
                format!("cannot listen on {address} for the {name}"),
                "stop what listens there, or choose another address with --listen (127.0.0.1:0 picks a free port)",
            )?,
        };
        let address = listener.local_addr()?;
        self.0.insert(name.to_owned(), address.port());
        Ok((listener, address))
    }
}
