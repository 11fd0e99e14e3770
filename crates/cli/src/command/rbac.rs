//! `nanboku rbac`.

use crate::body::Body;
use crate::output::Column;
use crate::resource::{
    ADDRESS_GROUP, Context, DeleteArgs, Kind, NETWORK, OneArgs, RBAC_POLICY, SECURITY_GROUP,
};
use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Subcommand)]
pub(crate) enum RbacCommand {
    /// Share something.
    Create(CreateArgs),
    /// List policies.
    List(ListArgs),
    /// Show one policy.
    Show(OneArgs),
    /// Change whom a policy is about.
    Set(SetArgs),
    /// Delete policies: nothing that a project uses because of one.
    Delete(DeleteArgs),
}

#[derive(Args, Debug)]
pub(crate) struct CreateArgs {
    /// Name or id of what is shared.
    object: String,
    /// What kind of thing it is.
    #[arg(long = "type", value_enum, value_name = "TYPE")]
    kind: ObjectType,
    /// What others may do with it.
    #[arg(long, value_enum, default_value = "shared")]
    action: Action,
    #[command(flatten)]
    target: Target,
    /// Project that owns the policy.
    #[arg(long, value_name = "ID")]
    project: Option<String>,
}

/// Whom a policy is about.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Target {
    /// The project it is shared with.
    #[arg(long, value_name = "ID")]
    target_project: Option<String>,
    /// All projects.
    #[arg(long)]
    target_all_projects: bool,
}

impl Target {
    fn value(&self) -> &str {
        self.target_project.as_deref().unwrap_or("*")
    }
}

#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    /// Only policies about this kind of thing.
    #[arg(long = "type", value_enum, value_name = "TYPE")]
    kind: Option<ObjectType>,
    /// Only policies with this action.
    #[arg(long, value_enum)]
    action: Option<Action>,
    /// Only policies about this project.
    #[arg(long, value_name = "ID")]
    target_project: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct SetArgs {
    /// Id of the policy.
    policy: String,
    #[command(flatten)]
    target: Target,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ObjectType {
    Network,
    #[value(name = "securitygroup", alias = "security_group")]
    SecurityGroup,
    #[value(name = "addressgroup", alias = "address_group")]
    AddressGroup,
}

impl ObjectType {
    const fn kind(self) -> &'static Kind {
        match self {
            Self::Network => &NETWORK,
            Self::SecurityGroup => &SECURITY_GROUP,
            Self::AddressGroup => &ADDRESS_GROUP,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Action {
    /// Use it.
    #[value(alias = "access_as_shared")]
    Shared,
    /// Of a network: have routers and floating IPs on it.
    #[value(alias = "access_as_external")]
    External,
}

impl Action {
    const fn word(self) -> &'static str {
        match self {
            Self::Shared => "access_as_shared",
            Self::External => "access_as_external",
        }
    }
}

const COLUMNS: &[Column] = &[
    Column::plain("id", "id"),
    Column::plain("type", "object_type"),
    Column::plain("object", "object_id"),
    Column::plain("action", "action"),
    Column::plain("target project", "target_tenant"),
    Column::plain("project", "project_id"),
];

pub(crate) async fn run(command: RbacCommand, cx: &Context) -> anyhow::Result<String> {
    match command {
        RbacCommand::Create(args) => create(&args, cx).await,
        RbacCommand::List(args) => list(&args, cx).await,
        RbacCommand::Show(args) => cx.show(&RBAC_POLICY, &args).await,
        RbacCommand::Set(args) => {
            let id = cx.client.find_id(&RBAC_POLICY, &args.policy).await?;
            cx.set(&RBAC_POLICY, &id, Body::default().with("target_tenant", args.target.value())).await
        }
        RbacCommand::Delete(args) => cx.delete(&RBAC_POLICY, &args).await,
    }
}

async fn create(args: &CreateArgs, cx: &Context) -> anyhow::Result<String> {
    let object = cx.client.find_id(args.kind.kind(), &args.object).await?;
    let body = Body::default()
        .with("object_type", args.kind.kind().singular)
        .with("object_id", object)
        .with("action", args.action.word())
        .with("target_tenant", args.target.value())
        .with_some("project_id", args.project.as_ref());
    cx.create(&RBAC_POLICY, body).await
}

async fn list(args: &ListArgs, cx: &Context) -> anyhow::Result<String> {
    let mut query = Vec::new();
    query.extend(args.kind.map(|kind| ("object_type", kind.kind().singular)));
    query.extend(args.action.map(|action| ("action", action.word())));
    query.extend(args.target_project.as_deref().map(|id| ("target_tenant", id)));
    Ok(cx.output.list(COLUMNS, &cx.client.list(&RBAC_POLICY, &query).await?))
}
