//! The service manager's watchdog is told only what the daemon's own socket proves: that a client's
//! call is answered, through the same door and the same threads as the kubelet's.

use crate::notify;
use hyper_util::rt::TokioIo;
use orlop_api::v1::StatusRequest;
use orlop_api::v1::runtime_service_client::RuntimeServiceClient;
use std::path::{Path, PathBuf};
use tokio::net::UnixStream;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tonic::transport::{Endpoint, Uri};

/// Feeds the watchdog for as long as it is polled; returns at once where there is none.
pub(crate) async fn watch(socket: PathBuf) {
    let Some(limit) = notify::watchdog_limit() else { return };
    // Half of the limit for the pace, a quarter for the answer: one that is missed is no death yet.
    let mut ticks = interval(limit / 2);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match timeout(limit / 4, ask(&socket)).await {
            Ok(Ok(())) => notify::state("WATCHDOG=1"),
            Ok(Err(why)) => tracing::warn!("the watchdog is not told that all is well: {why}"),
            Err(_) => tracing::warn!(
                "the watchdog is not told that all is well: no answer to a call in {:?}",
                limit / 4
            ),
        }
    }
}

/// Asks for Status as a kubelet does.
async fn ask(socket: &Path) -> Result<(), String> {
    let socket = socket.to_owned();
    let connect = tower::service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://localhost");
    let channel = endpoint.connect_with_connector(connect).await;
    let channel = channel.map_err(|error| format!("own socket: {error}"))?;
    let answer = RuntimeServiceClient::new(channel).status(StatusRequest::default()).await;
    answer.map(drop).map_err(|status| format!("own Status call: {status}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_there_is_no_health() {
        let dir = tempfile::tempdir().unwrap();
        assert!(ask(&dir.path().join("s")).await.is_err());
    }
}
