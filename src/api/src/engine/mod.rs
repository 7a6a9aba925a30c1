//! Orlop's own service for containers, networks and volumes, as the command line asks. The daemon
//! serves it beside CRI; a command that finds no daemon serves it to itself.
//!
//! Each call in one line, the work by topic in the modules beside.

mod commit;
mod containers;
mod files;
mod labels;
mod networks;
mod observe;
mod streams;
mod system;
mod volumes;

use labels::labels;

use crate::Api;
use crate::engine_v1::{self as v1, engine_server};
use crate::error::{ApiError, answer};
use orlop_engine::Engine;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::pin::Pin;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

/// Where the service finds the engine.
#[derive(Clone)]
pub struct EngineCalls(Source);

#[derive(Clone)]
enum Source {
    /// Behind a daemon, once it is ready.
    Daemon(Api),
    Own(Engine),
}

/// Replies of a server stream.
pub(crate) type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl EngineCalls {
    /// Over an engine that this process has opened itself.
    pub fn over(engine: Engine) -> Self {
        Self(Source::Own(engine))
    }

    pub(crate) fn of(api: Api) -> Self {
        Self(Source::Daemon(api))
    }

    pub(crate) fn engine(&self) -> Result<Engine, ApiError> {
        match &self.0 {
            Source::Daemon(api) => Ok(api.people()?.clone()),
            Source::Own(engine) => Ok(engine.clone()),
        }
    }
}

/// Reads what a request carries as JSON.
pub(crate) fn read<T: DeserializeOwned>(field: &'static str, json: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(json).map_err(|error| {
        orlop_engine::Error::Invalid {
            field,
            value: String::from_utf8_lossy(json).chars().take(200).collect(),
            why: format!("it cannot be read ({error}); command line and daemon differ in version?"),
        }
        .into()
    })
}

/// Writes JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<v1::Json, ApiError> {
    Ok(v1::Json { json: bytes(value)? })
}

/// Writes a list of JSON objects.
pub(crate) fn list<T: Serialize>(values: &[T]) -> Result<v1::JsonList, ApiError> {
    Ok(v1::JsonList { json: values.iter().map(bytes).collect::<Result<_, _>>()? })
}

fn bytes(value: &impl Serialize) -> Result<Vec<u8>, ApiError> {
    serde_json::to_vec(value).map_err(|error| ApiError::Stream { message: error.to_string() })
}

/// A call that its owner has not filled yet.
pub(crate) fn not_yet<T>(call: &'static str) -> Result<T, ApiError> {
    Err(orlop_engine::Error::Unimplemented(call).into())
}

/// The service: calls with one reply, calls with a stream of replies, calls with a stream of requests.
macro_rules! engine_service {
    (
        unary { $($name:ident: $request:ident => $response:ident, $function:path;)* }
        streams { $($stream:ident, $Stream:ident: $ask:ident => $item:ident, $source:path;)* }
        uploads { $($upload:ident: $part:ident => $done:ident, $sink:path;)* }
    ) => {
        #[tonic::async_trait]
        impl engine_server::Engine for EngineCalls {
            $(async fn $name(&self, request: Request<v1::$request>) -> Result<Response<v1::$response>, Status> {
                answer(stringify!($name), $function(self, request.into_inner()).await)
            })*
            $(type $Stream = Messages<v1::$item>;
            async fn $stream(&self, request: Request<v1::$ask>) -> Result<Response<Self::$Stream>, Status> {
                answer(stringify!($stream), $source(self, request.into_inner()).await)
            })*
            $(async fn $upload(&self, request: Request<Streaming<v1::$part>>) -> Result<Response<v1::$done>, Status> {
                answer(stringify!($upload), $sink(self, request.into_inner()).await)
            })*
        }
    };
}

engine_service! {
    unary {
        create: CreateRequest => CreateResponse, containers::create;
        start: ContainerRequest => Empty, containers::start;
        stop: StopRequest => Empty, containers::stop;
        restart: StopRequest => Empty, containers::restart;
        kill: KillRequest => Empty, containers::kill;
        pause: ContainerRequest => Empty, containers::pause;
        unpause: ContainerRequest => Empty, containers::unpause;
        remove: RemoveRequest => Empty, containers::remove;
        rename: RenameRequest => Empty, containers::rename;
        update: ChangeRequest => Empty, containers::update;
        list: Empty => JsonList, containers::list;
        inspect: ContainerRequest => Json, containers::inspect;
        wait: WaitRequest => WaitResponse, containers::wait;
        prepare: ContainerRequest => Json, streams::prepare;
        locate: ContainerRequest => Json, streams::locate;
        prepare_exec: ChangeRequest => Json, streams::prepare_exec;
        diff: ContainerRequest => JsonList, files::diff;
        commit: CommitRequest => Name, files::commit;
        top: TopRequest => Json, observe::top;
        stats: StatsRequest => JsonList, observe::stats;
        prune: PruneRequest => Json, containers::prune;
        create_network: Json => Name, networks::create;
        remove_network: Name => Empty, networks::remove;
        list_networks: Empty => JsonList, networks::list;
        inspect_network: Name => Json, networks::inspect;
        connect_network: ConnectRequest => Empty, networks::connect;
        disconnect_network: ConnectRequest => Empty, networks::disconnect;
        prune_networks: PruneRequest => Json, networks::prune;
        create_volume: Json => Name, volumes::create;
        remove_volume: RemoveVolumeRequest => Empty, volumes::remove;
        list_volumes: Empty => JsonList, volumes::list;
        inspect_volume: Name => Json, volumes::inspect;
        prune_volumes: PruneRequest => Json, volumes::prune;
        disk_usage: Empty => Json, system::disk_usage;
        info: Empty => Json, system::info;
    }
    streams {
        copy_out, CopyOutStream: CopyRequest => Chunk, files::copy_out;
        export_root, ExportRootStream: ContainerRequest => Chunk, files::export_root;
        events, EventsStream: EventsRequest => Json, observe::events;
    }
    uploads {
        copy_in: CopyRequest => Empty, files::copy_in;
    }
}
