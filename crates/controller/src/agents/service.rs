//! The gRPC service: knows its callers by their certificates.
//!
//! TLS has verified the certificate against the cluster's authority before anything here runs; that it is a
//! certificate *of the host that speaks* is checked here, when Hello says who that is.

use super::connection::{Outbound, Shared, serve};
use super::control::Control;
use super::hub::Hub;
use super::{Settings, bounds};
use crate::nat_log::NatLog;
use proto::controller_server::{Controller, ControllerServer};
use proto::{AgentMessage, ControllerMessage};
use rustls::pki_types::{CertificateDer, ServerName};
use std::sync::Arc;
use store::Store;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

/// The agents' side of the controller.
#[derive(Clone)]
pub struct Service {
    shared: Shared,
}

impl Service {
    /// The service and the loop to run beside it; both end with `stop`.
    pub fn new(
        store: Arc<Store>,
        settings: Settings,
        nat_log: Option<Arc<NatLog>>,
        stop: CancellationToken,
    ) -> (Self, Control) {
        let hub = Arc::new(Hub::new(Arc::clone(&store)));
        let (control, handle) = Control::new(store, Arc::clone(&hub), settings.clone(), nat_log);
        (Self { shared: Shared { hub, handle, settings: Arc::new(settings), stop } }, control)
    }

    pub fn hub(&self) -> Arc<Hub> {
        Arc::clone(&self.shared.hub)
    }

    pub fn grpc(self) -> ControllerServer<Self> {
        ControllerServer::new(self)
            .max_decoding_message_size(proto::MESSAGE_SIZE_MAX)
            .max_encoding_message_size(proto::MESSAGE_SIZE_MAX)
    }
}

#[tonic::async_trait]
impl Controller for Service {
    type ConnectStream = ReceiverStream<Result<ControllerMessage, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let certificates = request.peer_certs().unwrap_or_default();
        let certificate =
            certificates.first().ok_or_else(|| Status::unauthenticated("no client certificate"))?;
        let caller = Caller { certificate: certificate.clone() };
        let (outbound, receiver): (Outbound, _) = mpsc::channel(bounds::OUTBOUND_MAX);
        // The stream lives as long as the task: it is the only one to hold `outbound`.
        tokio::spawn(serve(self.shared.clone(), caller, request.into_inner(), outbound));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// Who holds the other end of a stream.
pub(super) struct Caller {
    certificate: CertificateDer<'static>,
}

impl Caller {
    /// # Errors
    /// `permission_denied` unless the certificate is one for `name`.
    pub(super) fn check_name(&self, name: &str) -> Result<(), Status> {
        let denied = || {
            Status::permission_denied(format!(
                "the certificate is not one of host '{name}'; make one with `nanboku ca issue`"
            ))
        };
        let certificate = webpki::EndEntityCert::try_from(&self.certificate).map_err(|_| denied())?;
        let name = ServerName::try_from(name).map_err(|_| denied())?;
        certificate.verify_is_valid_for_subject_name(&name).map_err(|_| denied())
    }
}
