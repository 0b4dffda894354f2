//! Creating what was shown, and nothing else.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::Api;
use kube::api::PostParams;

use super::plan::Plan;
use super::{api, ask, clean};
use crate::sources::cluster::{Connection, Trouble};
use crate::sources::gate::Permit;

/// Creates the Job, then what it owns. Whatever fails on the way, nothing stays behind.
///
/// The permit is what the gate gave for these very objects; it can't be used for others.
pub async fn submit(link: &Connection, plan: &Plan, permit: &Permit) -> Result<(), Trouble> {
    if *permit.action() != action(plan) {
        return Err(Trouble::status(403, "", "the permit is for something else"));
    }
    let how = PostParams {
        field_manager: Some("ncclscope".into()),
        ..PostParams::default()
    };
    let jobs: Api<Job> = api(link, &plan.namespace);
    let made = async {
        let job = ask(jobs.create(&how, &plan.job)).await?;
        let uid = job.metadata.uid.unwrap_or_default();
        let (service, script) = plan.owned(&uid);
        let services: Api<Service> = api(link, &plan.namespace);
        ask(services.create(&how, &service)).await?;
        let maps: Api<ConfigMap> = api(link, &plan.namespace);
        ask(maps.create(&how, &script)).await?;
        Ok(())
    };
    let made = made.await;
    if made.is_err() {
        // Also where the answer alone was lost: the name is this run's own.
        clean::run(link, &plan.namespace, plan.name()).await;
    }
    made
}

/// What the gate is asked.
#[must_use]
pub fn action(plan: &Plan) -> crate::sources::gate::Action {
    crate::sources::gate::Action::Create {
        objects: plan.objects(),
    }
}
