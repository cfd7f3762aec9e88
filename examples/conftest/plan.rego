# What a platform team may ask of each plan, beside what the engine refuses by itself:
#   engine plan --base origin/main --output json | conftest test --policy examples/conftest -
# Fields are those of `engine schema plan`.
package main

import rego.v1

deny contains message if {
	input.version != 2
	message := sprintf("expected a plan of version 2, found %v: read the changelog before this rule is changed", [input.version])
}

deny contains message if {
	input.error
	message := sprintf("there is no plan: %s", [input.error])
}

deny contains message if {
	some change in input.trustChanges
	change.state != "accepted"
	message := sprintf("trust change of `%s` is %s (%s)", [change.cluster, change.state, change.digest])
}

deny contains message if {
	some item in input.securityRelevant
	item.refused
	message := sprintf("%s: %s", [item.code, item.message])
}

# A rule of one's own: nothing that runs in a cluster goes without a ticket.
deny contains message if {
	some step in input.steps
	some object in step.objects
	object.action == "delete"
	startswith(object.object, "Deployment")
	message := sprintf("%s would be deleted (%s)", [object.object, object.path])
}
