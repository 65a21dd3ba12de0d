package supervisor

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
)

func noStart(*actors.Context) (*actors.PID, error) { return nil, actors.ErrIgnore }

// Zero values mean OTP's defaults; what a child's are is also TestOTP_sup_start_map.
func TestDefaults(t *testing.T) {
	spec, err := Spec{Children: []ChildSpec{{ID: "w", Start: noStart}, {ID: "s", Start: noStart, Type: TypeSupervisor}}}.validate()
	require.NoError(t, err)
	require.Equal(t, OneForOne, spec.Strategy)
	require.Equal(t, 1, spec.Intensity)
	require.Equal(t, 5*time.Second, spec.Period)
	require.Equal(t, AutoShutdownNever, spec.AutoShutdown)
	require.Equal(t, Permanent, spec.Children[0].Restart)
	require.Equal(t, After(5*time.Second), spec.Children[0].Shutdown)
	require.Equal(t, Infinity, spec.Children[1].Shutdown)

	spec, err = Spec{Intensity: Never}.validate()
	require.NoError(t, err)
	require.Zero(t, spec.Intensity)
	require.Equal(t, TypeSupervisor, Sub("x", Spec{}).Type)
	require.Equal(t, TypeWorker, Worker("x", func() actors.Process { return nil }).Type)
	require.Positive(t, After(0), "no time at all is not the default")
	require.Positive(t, After(-time.Second))
}

func TestNamesOfValues(t *testing.T) {
	require.Equal(t, "rest_for_one", RestForOne.String())
	require.Equal(t, "transient", Transient.String())
	require.Equal(t, "supervisor", TypeSupervisor.String())
	require.Equal(t, "any_significant", AnySignificant.String())
	require.Equal(t, "gave_up", GaveUp.String())
	require.Equal(t, "unknown(9)", Strategy(9).String())
	require.Equal(t, `supervisor "s": child "c": wrong`, (&SpecError{"s", "c", "wrong"}).Error())
	require.Equal(t, `supervisor "s": wrong`, (&SpecError{"s", "", "wrong"}).Error())
}
