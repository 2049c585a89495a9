//! `dogiqa check` on topics whose settings break the delivery guarantees.

use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;

use crate::service_fixture::ServiceFixture;
use crate::services::services;

#[test]
fn check_warns_about_a_topic_that_accepts_no_writes() {
    let Some(services) = services() else { return };
    let fixture = ServiceFixture::new(services, "check-topics", 2);
    let admin: AdminClient<DefaultClientContext> = fixture.client().create().unwrap();
    let events = fixture.events();
    let config =
        AlterConfig::new(ResourceSpecifier::Topic(&events)).set("min.insync.replicas", "2");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let altered = runtime.block_on(admin.alter_configs([&config], &AdminOptions::new())).unwrap();
    assert!(altered.iter().all(Result::is_ok), "{altered:?}");

    let output = fixture.command(&["check"]).output().unwrap();
    let report = String::from_utf8(output.stdout).unwrap();
    let line = |topic: &str| {
        let mut lines = report.lines().filter(|line| line.contains(topic));
        lines.next().unwrap_or_else(|| panic!("no line about {topic}:\n{report}")).to_owned()
    };
    let of_events = line(&events);
    assert!(of_events.starts_with("warning"), "{of_events}");
    assert!(of_events.contains("min.insync.replicas = 2 is more than that"), "{of_events}");
    assert!(line(&fixture.input()).contains("below 3"), "{report}");
}
