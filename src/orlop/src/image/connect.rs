//! The two doors: a daemon's socket, or the store opened by this process, behind one client.

use crate::config::Config;
use anyhow::Context;
use hyper_util::rt::TokioIo;
use orlop_api::ImageCalls;
use orlop_api::images_v1::images_client::ImagesClient;
use orlop_image::ImageStore;
use std::io::ErrorKind;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint, Uri};

pub(crate) type Client = ImagesClient<Channel>;

/// Bytes on their way between client and service in one process.
const PIPE: usize = 1 << 20;

/// An open way to the service.
pub(crate) struct Door {
    pub(crate) client: Client,
    /// The service, where it is in this process, with the store that it serves.
    own: Option<(JoinHandle<()>, ImageStore)>,
}

impl Door {
    /// The daemon's where one listens; else the store's own, under its lock.
    pub(crate) async fn open(config: &Config) -> anyhow::Result<Self> {
        let path = config.socket();
        match UnixStream::connect(&path).await {
            Ok(stream) => Ok(Self { client: client(stream).await?, own: None }),
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) =>
            {
                Self::without_daemon(config).await
            }
            Err(error) => {
                Err(error).with_context(|| format!("socket {} cannot be used", path.display()))
            }
        }
    }

    async fn without_daemon(config: &Config) -> anyhow::Result<Self> {
        let options = config.image_options()?;
        let opened = tokio::task::spawn_blocking(move || ImageStore::open(options)).await?;
        let store = opened.context("no daemon listens, and the image store cannot be opened")?;
        let (near, far) = tokio::io::duplex(PIPE);
        let calls = ImageCalls::over(store.clone());
        let server = tokio::spawn(async move {
            // It ends with the client; there is nobody to tell.
            let _ = orlop_api::serve_images(calls, far).await;
        });
        Ok(Self { client: client(near).await?, own: Some((server, store)) })
    }

    /// Lets go of the store, so that it is closed in order.
    pub(crate) async fn close(self) {
        drop(self.client);
        if let Some((server, store)) = self.own {
            server.abort();
            let _ = server.await;
            let _ = tokio::task::spawn_blocking(move || drop(store)).await;
        }
    }
}

async fn client<S>(stream: S) -> anyhow::Result<Client>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let mut stream = Some(stream);
    let connect = tower::service_fn(move |_: Uri| {
        // One connection is all that there is.
        let stream = stream.take().ok_or_else(|| std::io::Error::other("the connection is gone"));
        std::future::ready(stream.map(TokioIo::new))
    });
    let channel = Endpoint::from_static("http://orlop").connect_with_connector(connect).await;
    let channel = channel.context("the daemon does not answer")?;
    Ok(ImagesClient::new(channel).max_decoding_message_size(64 << 20))
}
