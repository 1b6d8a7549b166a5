// Reads a JSON list of the Prometheus operator's resources, and ends with 1 where one is not as its schema says.
import { readFileSync } from "node:fs";
import * as v1 from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";

for (const resource of JSON.parse(readFileSync(0, "utf8"))) {
  const Kind = v1[resource.kind];
  if (!Kind || resource.apiVersion !== Kind.apiVersion) throw new Error(`no schema for ${resource.apiVersion} ${resource.kind}`);
  new Kind(resource).validate();
  console.log(`${resource.kind} is valid`);
}
