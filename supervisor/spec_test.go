package supervisor

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
)

func noStart(*actors.Context) (*actors.PID, error) { return nil, actors.ErrIgnore }

// OTP: sup_start_map. Zero values mean OTP's defaults.
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

// OTP: sup_flags.
func TestWrongSpecs(t *testing.T) {
	for problem, spec := range map[string]Spec{
		"unknown strategy":      {Strategy: SimpleOneForOne + 1},
		"negative intensity":    {Intensity: -2},
		"negative period":       {Period: -1},
		"unknown auto-shutdown": {AutoShutdown: AllSignificant + 1},
		"duplicate id":          {Children: []ChildSpec{{ID: "a", Start: noStart}, {ID: "b", Start: noStart}, {ID: "a", Start: noStart}}},
	} {
		_, err := spec.validate()
		var wrong *SpecError
		require.ErrorAs(t, err, &wrong)
		require.Equal(t, problem, wrong.Problem)
	}
}

// OTP: child_specs, child_specs_map. Each wrong field has its own error; every good combination is accepted.
func TestChildSpecs(t *testing.T) {
	for problem, child := range map[string]ChildSpec{
		"child without id":                        {Start: noStart},
		"no start function":                       {ID: "a"},
		"unknown restart type":                    {ID: "a", Start: noStart, Restart: Temporary + 1},
		"negative shutdown":                       {ID: "a", Start: noStart, Shutdown: -3},
		"unknown child type":                      {ID: "a", Start: noStart, Type: TypeSupervisor + 1},
		"a permanent child cannot be significant": {ID: "a", Start: noStart, Significant: true},
	} {
		_, err := child.validate(&Spec{Name: "sup", AutoShutdown: AnySignificant})
		require.Equal(t, &SpecError{Supervisor: "sup", Child: child.ID, Problem: problem}, err)
	}
	for _, auto := range []AutoShutdown{AutoShutdownNever, AnySignificant, AllSignificant} {
		for _, restart := range []Restart{Permanent, Transient, Temporary} {
			for _, shutdown := range []Shutdown{0, BrutalKill, Infinity, After(time.Second)} {
				for _, typ := range []ChildType{TypeWorker, TypeSupervisor} {
					for _, significant := range []bool{false, true} {
						_, err := ChildSpec{
							ID: "a", Start: noStart, Restart: restart, Shutdown: shutdown, Type: typ, Significant: significant,
						}.validate(&Spec{Name: "sup", AutoShutdown: auto})
						if significant && (auto == AutoShutdownNever || restart == Permanent) {
							require.Error(t, err)
						} else {
							require.NoError(t, err)
						}
					}
				}
			}
		}
	}
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
