//! Agents: the hosts as Neutron shows them. They are made by connecting.

use super::{Service, by_ids, find};
use api::resources::{AgentCreate, AgentUpdate, AgentView};
use api::{Caller, Error, Handles, Hints, Precondition};
use model::HostId;
use model::resource::Host;

impl Handles<Host> for Service {
    fn list(&self, _caller: &Caller, hints: &Hints) -> Vec<AgentView> {
        let snapshot = self.snapshot();
        by_ids::<Host>(&snapshot, hints).iter().map(|host| self.agent_view(host)).collect()
    }

    fn show(&self, _caller: &Caller, id: HostId) -> Result<AgentView, Error> {
        Ok(self.agent_view(&*find::<Host>(&self.snapshot(), id)?))
    }

    fn create(&self, _caller: &Caller, requests: Vec<AgentCreate>) -> Result<Vec<AgentView>, Error> {
        requests.into_iter().map(|request| match request {}).collect()
    }

    fn update(
        &self,
        _caller: &Caller,
        id: HostId,
        change: AgentUpdate,
        _precondition: Precondition,
    ) -> Result<AgentView, Error> {
        self.write(|write| {
            let mut host = Host::clone(&*find::<Host>(write.tx, id)?);
            host.drained = change.admin_state_up.map_or(host.drained, |up| !up);
            if let Some(description) = change.description {
                host.description = description.unwrap_or_default();
            }
            write.tx.put(host.clone());
            Ok(self.agent_view(&host))
        })
    }

    fn delete(&self, _caller: &Caller, id: HostId, _precondition: Precondition) -> Result<(), Error> {
        self.write(|write| {
            let host = find::<Host>(write.tx, id)?;
            if host.live || write.tx.ports_of_host(&host.name).next().is_some() {
                return Err(Error::AgentInUse { id: id.to_string() });
            }
            write.tx.remove::<Host>(id);
            Ok(())
        })
    }
}

impl Service {
    fn agent_view(&self, host: &Host) -> AgentView {
        let presence = self.hub.presence(host.id);
        let heard_at = presence.as_ref().map(|presence| presence.last_seen);
        let revision = presence.and_then(|presence| presence.programmed_revision);
        AgentView::new(host, host.live, heard_at, revision)
    }
}
