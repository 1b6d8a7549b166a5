//! What the sandbox bills, and what it does not.

use std::time::Duration;

use super::*;

fn usd(text: &str) -> crate::policy::money::Usd {
    text.parse().unwrap()
}

#[test]
fn the_first_read_of_a_number_is_billed_and_the_next_is_free() {
    let (sandbox, clock) = sandbox();
    let path = scoped(&format!("/numbers/{FIRST}"));
    let (status, first) = get(&sandbox, &path);
    assert_eq!((status, first["data"]["reputation_data"]["last_refreshed_at"].as_str()), (StatusCode::OK, Some(START)));
    clock.advance(Duration::from_mins(1));
    assert_eq!(get(&sandbox, &format!("/v2/reputation/numbers/{FIRST}?fresh=false")).1, first, "both paths, one record");
    assert_eq!(sandbox.charges().operation(Operation::FirstTouch), Tally { usd: usd("0.10"), count: 1 });
    assert_eq!(sandbox.charges().total, usd("0.10"));
}

#[test]
fn fresh_is_billed_each_time_and_dates_the_record() {
    let (sandbox, clock) = sandbox();
    let stored = get(&sandbox, &scoped(&format!("/numbers/{WITH_DATA}"))).1;
    assert_eq!(stored["data"]["reputation_data"]["last_refreshed_at"], "2026-11-20T06:00:00Z");
    assert_eq!(sandbox.charges().count, 0);
    for fresh in ["true", "1", "TRUE"] {
        clock.advance(Duration::from_secs(1));
        let (_, record) = get(&sandbox, &scoped(&format!("/numbers/{WITH_DATA}?fresh={fresh}")));
        assert_eq!(record["data"]["updated_at"], clock.now().to_string());
        assert_eq!(record["data"]["reputation_data"]["last_refreshed_at"], clock.now().to_string());
    }
    assert_eq!(sandbox.charges().number(WITH_DATA), Tally { usd: usd("0.30"), count: 3 });
    assert_eq!(sandbox.charges().operation(Operation::Fresh).count, 3);
}

#[test]
fn a_number_without_data_stays_null_and_every_read_of_it_is_billed() {
    let (sandbox, _) = sandbox();
    for _ in 0..3 {
        assert_eq!(get(&sandbox, &scoped(&format!("/numbers/{WITHOUT_DATA}"))).1["data"]["reputation_data"], Value::Null);
    }
    assert_eq!(sandbox.charges().number(WITHOUT_DATA).count, 3);
}

#[test]
fn lists_are_free_filtered_and_paged() {
    let (sandbox, _) = sandbox();
    let total = 32;
    for (path, count) in [(scoped("/numbers"), 10), ("/v2/reputation/numbers".to_owned(), 20), (scoped("/numbers?page[size]=900"), total)] {
        let (_, list) = get(&sandbox, &path);
        assert_eq!(list["data"].as_array().map(Vec::len), Some(count), "{path}");
        assert_eq!((&list["meta"]["page_size"], &list["meta"]["total_results"]), (&count.into(), &total.into()));
    }
    let (_, list) = get(&sandbox, &scoped("/numbers?filter%5Bphone_number%5D%5Beq%5D=%2B16035551234"));
    assert_eq!((&list["data"][0]["phone_number"], &list["meta"]["total_pages"]), (&WITH_DATA.into(), &1.into()));
    assert!(list["data"][0]["reputation_data"]["last_refreshed_at"].is_string());
    let (_, none) = get(&sandbox, &scoped("/numbers?filter[phone_number][eq]=+16035551234"));
    assert_eq!(none["meta"]["total_results"], 0, "in a query a plus is a space");
    assert_eq!(get(&sandbox, &scoped("/numbers?filter[phone_number][contains]=55500")).1["meta"]["total_results"], 30);
    assert_eq!(get(&sandbox, &scoped("/numbers?filter[phone_number][contains]=5550")).0, StatusCode::BAD_REQUEST);
    let (_, beyond) = get(&sandbox, &scoped("/numbers?page[number]=9"));
    assert_eq!((&beyond["meta"]["page_size"], &beyond["meta"]["total_pages"]), (&0.into(), &4.into()));
    assert_eq!(sandbox.charges().count, 0);
}

#[test]
fn a_refresh_bills_the_numbers_it_could_check() {
    let (sandbox, _) = sandbox();
    let body = format!(r#"{{"phone_numbers": ["{FIRST}", "+19995550000"]}}"#);
    let (status, answer) = ask(&sandbox, "POST", &scoped("/numbers/refresh"), &body);
    let data = &answer["data"];
    assert_eq!((status, &data["total_successful"], &data["total_failed"]), (StatusCode::OK, &1.into(), &1.into()));
    assert_eq!((&data["results"][0]["success"], &data["results"][1]["success"]), (&true.into(), &false.into()));
    assert_eq!(sandbox.charges().operation(Operation::Refresh).count, 1);
    assert_eq!(sandbox.charges().number(FIRST).count, 1);
}

#[test]
fn an_association_is_all_or_nothing() {
    let (sandbox, _) = sandbox();
    let associate = |numbers: &str| ask(&sandbox, "POST", &scoped("/numbers"), &format!(r#"{{"phone_numbers": [{numbers}]}}"#));
    let (status, refused) = associate(&format!(r#""+19995550000", "{FIRST}""#));
    assert_eq!((status, &refused["errors"][0]["source"]["pointer"]), (StatusCode::BAD_REQUEST, &"/body/phone_numbers/1".into()));
    assert_eq!(associate(r#""19995550000""#).1["errors"][0]["code"], "10016");
    assert_eq!(associate("").0, StatusCode::BAD_REQUEST);
    assert_eq!((sandbox.charges().count, get(&sandbox, "/v2/reputation/numbers/+19995550000").0), (0, StatusCode::NOT_FOUND));
    let (status, made) = associate(r#""+19995550000", "+19995550001""#);
    assert_eq!((status, &made["meta"]["total_results"]), (StatusCode::CREATED, &2.into()));
    assert_eq!(sandbox.charges().operation(Operation::Associate), Tally { usd: usd("0.20"), count: 2 });
    assert_eq!(ask(&sandbox, "DELETE", "/v2/reputation/numbers/%2B19995550001", "").0, StatusCode::NO_CONTENT);
    assert_eq!(get(&sandbox, "/v2/reputation/numbers/%2B19995550001").1["errors"][0]["code"], "10009");
}

#[test]
fn remediation_costs_a_dollar_a_number_once() {
    let (sandbox, _) = sandbox();
    let path = scoped("/remediation");
    let body = format!(r#"{{"phone_numbers": ["{FIRST}", "{WITH_DATA}"], "call_purpose": "appointments"}}"#);
    let (status, made) = ask(&sandbox, "POST", &path, &body);
    assert_eq!((status, &made["data"]["status"]), (StatusCode::ACCEPTED, &"pending".into()));
    assert_eq!(ask(&sandbox, "POST", &path, &body).0, StatusCode::CONFLICT);
    let unclear = format!(r#"{{"phone_numbers": ["{FIRST}"]}}"#);
    assert_eq!(ask(&sandbox, "POST", &path, &unclear).0, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(sandbox.charges().operation(Operation::Remediation), Tally { usd: usd("2.00"), count: 2 });
    assert_eq!(get(&sandbox, &path).1["meta"]["total_results"], 1);
    assert_eq!(get(&sandbox, &format!("{path}/{}", made["data"]["id"].as_str().unwrap())).1, made);
}

#[test]
fn ownership_is_read_confirmed_and_proved_for_nothing() {
    let (sandbox, _) = sandbox();
    let number = scoped(&format!("/numbers/{FIRST}"));
    assert_eq!(get(&sandbox, &format!("{number}/ownership")).1["data"]["ownership_status"], "verified");
    let confirm = |body| ask(&sandbox, "POST", &format!("{number}/ownership_confirm"), body).0;
    assert_eq!((confirm("{}"), confirm(r#"{"still_own": true}"#)), (StatusCode::UNPROCESSABLE_ENTITY, StatusCode::OK));
    assert_eq!((confirm(r#"{"still_own": false}"#), get(&sandbox, &number).0), (StatusCode::OK, StatusCode::NOT_FOUND));
    let proof = scoped("/external_verification");
    assert_eq!(get(&sandbox, &proof).0, StatusCode::NOT_FOUND);
    assert_eq!(ask(&sandbox, "POST", &proof, r#"{"document_ids": []}"#).0, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(ask(&sandbox, "POST", &proof, r#"{"document_ids": ["d"], "phone_numbers": ["1"]}"#).0, StatusCode::BAD_REQUEST);
    let made = ask(&sandbox, "POST", &proof, r#"{"document_ids": ["d"]}"#);
    assert_eq!((made.0, get(&sandbox, &proof).1), (StatusCode::CREATED, made.1));
    let webhook = |body| ask(&sandbox, "PATCH", &scoped("/webhook"), body);
    assert_eq!(webhook(r#"{"webhook_url": "https://a.example/"}"#).1["data"]["webhook_url"], "https://a.example/");
    assert_eq!(
        (webhook(r#"{"webhook_url": null}"#).0, webhook(r#"{"webhook_url": "x"}"#).0),
        (StatusCode::OK, StatusCode::UNPROCESSABLE_ENTITY)
    );
    assert_eq!(sandbox.charges().count, 0);
}

#[test]
fn monitoring_is_billed_when_it_is_enabled_and_its_end_forgets_the_numbers() {
    let (sandbox, _) = sandbox();
    assert_eq!(ask(&sandbox, "PATCH", &scoped("/frequency"), r#"{"check_frequency": "never"}"#).0, StatusCode::OK);
    assert_eq!(get(&sandbox, &scoped("")).1["data"]["check_frequency"], "never");
    assert_eq!(ask(&sandbox, "PATCH", &scoped("/frequency"), r#"{"check_frequency": "hourly"}"#).0, StatusCode::BAD_REQUEST);
    assert_eq!(ask(&sandbox, "DELETE", &scoped(""), "").0, StatusCode::NO_CONTENT);
    assert_eq!((get(&sandbox, &scoped("")).0, get(&sandbox, &scoped("/numbers")).0), (StatusCode::NOT_FOUND, StatusCode::NOT_FOUND));
    assert_eq!(ask(&sandbox, "POST", &scoped(""), "{}").0, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(ask(&sandbox, "POST", &scoped(""), r#"{"loa_document_id": "2a7e8337"}"#).0, StatusCode::CREATED);
    assert_eq!(get(&sandbox, &scoped("/numbers")).1["meta"]["total_results"], 0);
    assert_eq!(sandbox.charges().operation(Operation::Monitoring), Tally { usd: usd("100.00"), count: 1 });
}

#[test]
fn each_enterprise_has_its_own_numbers_and_the_first_answers_simplified_reads() {
    let second = "0f0e0d0c-0000-4000-8000-000000000002";
    let enterprises = vec![ENTERPRISE.to_owned(), second.to_owned()];
    let sandbox = Sandbox::new(Config { numbers: 2, enterprises, ..Config::default() }, Clock::manual(start()));
    assert_eq!(get(&sandbox, &format!("/v2/reputation/numbers/{FIRST}")).1["data"]["enterprise_id"], ENTERPRISE);
    let (_, other) = get(&sandbox, &format!("/v2/enterprises/{second}/reputation/numbers/{FIRST}"));
    assert_eq!(other["data"]["enterprise_id"], second);
    assert_eq!(sandbox.charges().number(FIRST).count, 2, "each is checked for itself");
    assert_eq!(get(&sandbox, &format!("/v2/reputation/numbers?filter[enterprise_id]={second}")).1["meta"]["total_results"], 4);
    assert_eq!(get(&sandbox, "/v2/enterprises").1["meta"]["total_results"], 2);
    assert_eq!(ask(&sandbox, "POST", "/v2/enterprises", r#"{"legal_name": "Acme"}"#).1["data"]["legal_name"], "Acme");
    assert_eq!(get(&sandbox, "/v2/enterprises").1["data"][2]["number_reputation_enabled"], false);
}

#[test]
fn the_same_seed_finds_the_same_and_a_reset_starts_over() {
    let (one, _) = sandbox();
    let (two, _) = sandbox();
    let path = scoped(&format!("/numbers/{FIRST}?fresh=true"));
    let (first, second) = (get(&one, &path).1, get(&one, &path).1);
    assert_eq!(get(&two, &path).1, first);
    assert_ne!(first, second, "scores move");
    one.script(Fault::new(Kind::Reset));
    one.reset();
    assert_eq!((one.charges(), one.requests()), (Charges::default(), Vec::new()));
    assert_eq!(get(&one, &path).1, first);
    let other = Sandbox::new(Config { seed: 2, ..Config::default() }, Clock::manual(start()));
    assert_ne!(get(&other, &path).1, first);
}

#[test]
fn charges_read_as_documented() {
    let (sandbox, _) = sandbox();
    get(&sandbox, &scoped(&format!("/numbers/{FIRST}")));
    let charges = serde_json::to_value(sandbox.charges()).unwrap();
    assert_eq!((&charges["total_usd"], &charges["count"]), (&"0.10".into(), &1.into()));
    assert_eq!(charges["by_number"], json!({ FIRST: { "usd": "0.10", "count": 1 } }));
    assert_eq!(charges["by_operation"]["first_touch"], json!({ "usd": "0.10", "count": 1 }));
    assert_eq!(charges["by_operation"]["fresh"], json!({ "usd": "0.00", "count": 0 }));
}

#[test]
fn terms_and_letters_answer() {
    let sandbox = Sandbox::new(Config { terms_agreed: false, ..Config::default() }, Clock::manual(start()));
    ask(&sandbox, "DELETE", &scoped(""), "");
    assert_eq!(ask(&sandbox, "POST", &scoped(""), r#"{"loa_document_id": "2a7e8337"}"#).0, StatusCode::FORBIDDEN);
    assert_eq!(ask(&sandbox, "POST", "/v2/terms_of_service/number_reputation/agree", "").0, StatusCode::CREATED);
    let status = get(&sandbox, "/v2/terms_of_service/status?product_type=number_reputation").1;
    assert_eq!(status["data"]["has_agreed"], true);
    assert_eq!(ask(&sandbox, "POST", &scoped("/loa"), "").0, StatusCode::OK);
}
