package control

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/shearpin/shearpin/rebalance"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/web"
	"github.com/shearpin/shearpin/rebalance/store"
)

// kinds are the errors that have a code of their own; the first that fits counts.
var kinds = []struct {
	fits   func(error) bool
	status int
	code   string
}{
	{is(rebalance.ErrClosed), http.StatusServiceUnavailable, CodeClosing},
	{is(rebalance.ErrRebalanceRunning), http.StatusConflict, CodeRunning},
	{is(rebalance.ErrFailoverRunning), http.StatusConflict, CodeFailover},
	{is(rebalance.ErrMembersChanging), http.StatusConflict, CodeMembers},
	{as[*rebalance.AbortRefused], http.StatusConflict, CodeNotAborted},
	{is(rebalance.ErrNotRunning), http.StatusConflict, CodeNotRunning},
	{is(rebalance.ErrNoNodesLeft), http.StatusConflict, CodeNoNodesLeft},
	{as[*rebalance.UnsafeFailover], http.StatusConflict, CodeUnsafe},
	{is(rebalance.ErrUnknownNode), http.StatusNotFound, CodeUnknownNode},
	{is(rebalance.ErrMapChanged), http.StatusConflict, CodeConflict},
	{is(rebalance.ErrNoReport), http.StatusNotFound, CodeNotFound},
	{is(store.ErrNotFound), http.StatusNotFound, CodeNotFound},
	{is(store.ErrConflict), http.StatusConflict, CodeConflict},
	{is(context.DeadlineExceeded), http.StatusGatewayTimeout, CodeTimeout},
	{as[*http.MaxBytesError], http.StatusRequestEntityTooLarge, CodeTooLarge},
	{as[*FieldError], http.StatusBadRequest, CodeBadRequest},
	{as[*rebalance.BucketTakenError], http.StatusConflict, CodeTaken},
	{as[*rebalance.KeptCopies], http.StatusConflict, CodeKeptCopies},
	{as[*rebalance.PlanChangedError], http.StatusConflict, CodePlanChanged},
	{as[*rebalance.NodeInUseError], http.StatusConflict, CodeNodeInUse},
	{as[*rebalance.NotActiveError], http.StatusConflict, CodeNotActive},
}

func is(target error) func(error) bool {
	return func(err error) bool { return errors.Is(err, target) }
}

func as[E error](err error) bool {
	var e E
	return errors.As(err, &e)
}

// NewProblem is an error as it is answered, with the status that goes with it.
func NewProblem(err error) (status int, p *Problem) {
	if errors.As(err, &p) {
		return statusOf(p.Code), p
	}
	p = &Problem{Code: CodeFailed, Text: err.Error(), Cause: rebalance.Causes(err)}
	status = http.StatusInternalServerError
	for _, kind := range kinds {
		if kind.fits(err) {
			status, p.Code = kind.status, kind.code
			break
		}
	}
	var field *FieldError
	if errors.As(err, &field) {
		p.Field, p.Value = field.Field, fmt.Sprint(field.Value)
	}
	return status, p
}

// statusOf is the status of a problem that was made where it arose.
func statusOf(code string) int {
	switch code {
	case CodeBadRequest:
		return http.StatusBadRequest
	case CodeUnauthorised:
		return http.StatusUnauthorized
	case CodeForbidden:
		return http.StatusForbidden
	case CodeNotFound, CodeNoRebalance:
		return http.StatusNotFound
	case CodeExists:
		return http.StatusConflict
	case CodeNotJSON:
		return http.StatusUnsupportedMediaType
	case CodeBusy, CodeClosing, CodeNotReady:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// Refuse answers with an error.
func Refuse(w http.ResponseWriter, err error) {
	status, p := NewProblem(err)
	web.Answer(w, status, errorBody{p})
}
