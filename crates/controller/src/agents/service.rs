//! The gRPC service: knows its callers by their certificates.
//!
//! TLS has verified the certificate against the cluster's authority before anything here runs; that it is a
//! certificate *of the host that speaks* is checked here, when Hello says who that is.

use super::connection::{Outbound, Shared, serve};
use super::control::Control;
use super::hub::Hub;
use super::inquiry::Part;
use super::{Settings, bounds};
use crate::nat_log::NatLog;
use proto::controller_server::{Controller, ControllerServer};
use proto::{AgentMessage, AnswerDone, AnswerPart, ControllerMessage};
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
        let caller = Caller::of(&request)?;
        let (outbound, receiver): (Outbound, _) = mpsc::channel(bounds::OUTBOUND_MAX);
        // The stream lives as long as the task: it is the only one to hold `outbound`.
        tokio::spawn(serve(self.shared.clone(), caller, request.into_inner(), outbound));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn answer(&self, request: Request<Streaming<AnswerPart>>) -> Result<Response<AnswerDone>, Status> {
        let caller = Caller::of(&request)?;
        let mut parts = request.into_inner();
        let gone = || Status::cancelled("nobody waits for this answer");
        let first = parts.message().await?.ok_or_else(|| Status::invalid_argument("an empty answer"))?;
        caller.check_name(&first.host_name)?;
        let (host, asker) = self.shared.hub.waiting(first.number, &first.host_name).ok_or_else(gone)?;
        let mut next: Result<_, Status> = Ok(Some(first));
        let end = loop {
            match next {
                Ok(Some(part)) if !part.refused.is_empty() => break Err(part.refused),
                Ok(Some(part)) if part.rows.is_empty() => {}
                Ok(Some(part)) => asker.send((host, Part::Rows(part.rows))).await.map_err(|_| gone())?,
                Ok(None) => break Ok(()),
                Err(broken) => break Err(format!("its answer broke off: {}", broken.message())),
            }
            next = parts.message().await;
        };
        asker.send((host, Part::End(end))).await.map_err(|_| gone())?;
        Ok(Response::new(AnswerDone {}))
    }
}

/// Who holds the other end of a stream.
pub(super) struct Caller {
    certificate: CertificateDer<'static>,
}

impl Caller {
    /// # Errors
    /// `unauthenticated` without a certificate.
    fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        let certificates = request.peer_certs().unwrap_or_default();
        let certificate =
            certificates.first().ok_or_else(|| Status::unauthenticated("no client certificate"))?;
        Ok(Self { certificate: certificate.clone() })
    }

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
