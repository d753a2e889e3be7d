//! A door before the simulated providers that can be shut: then connections are refused, as they are by a server that is away.
//! Deliberately absent: any look at what goes through.

use std::net::SocketAddr;
use std::sync::Mutex;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// The door, open when it is made.
pub struct Door {
    /// What it leads to, from outside.
    pub url: String,
    at: SocketAddr,
    inside: String,
    open: Mutex<Option<JoinHandle<()>>>,
}

impl Door {
    /// Before this address.
    pub async fn before(inside: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("bound");
        let door = Door {
            url: format!("http://{at}"),
            at,
            inside: inside.to_owned(),
            open: Mutex::default(),
        };
        door.keep(listener);
        door
    }

    fn keep(&self, listener: TcpListener) {
        let inside = self.inside.clone();
        let task = tokio::spawn(async move {
            let mut through = JoinSet::new();
            while let Ok((mut outer, _)) = listener.accept().await {
                let inside = inside.clone();
                through.spawn(async move {
                    let mut inner = TcpStream::connect(inside).await?;
                    tokio::io::copy_bidirectional(&mut outer, &mut inner).await
                });
            }
        });
        *self.open.lock().expect("no test panics under it") = Some(task);
    }

    /// Shuts it: whoever is in it is cut off, whoever comes is refused.
    pub async fn shut(&self) {
        let task = self.open.lock().expect("no test panics under it").take();
        let task = task.expect("it was open");
        task.abort();
        let ended = task.await;
        assert!(ended.is_err_and(|error| error.is_cancelled()));
    }

    /// Opens it again.
    pub async fn open(&self) {
        self.keep(TcpListener::bind(self.at).await.expect("its port"));
    }
}
