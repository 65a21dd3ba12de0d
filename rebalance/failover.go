package rebalance

// FailoverRequest names the nodes to give up.
type FailoverRequest struct {
	// Nodes are known and not empty. All that do not answer belong here: of a survivor that is silent nobody knows
	// whether it has more than those that answer, so what may depend on it is left alone.
	Nodes []string `json:"nodes"`
	// AllowUnsafe accepts that data is lost: of vbuckets that have no copy elsewhere, and where the surviving copies
	// contradict each other.
	AllowUnsafe bool `json:"allow_unsafe,omitempty"`
}
